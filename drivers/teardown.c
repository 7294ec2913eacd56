/* SPDX-License-Identifier: MIT */
#include "drivers/teardown.h"

int zd_teardown_add(struct zd_devm *devm, zd_devm_action_t *const *steps, int nr, void *data)
{
	int rc = 0, registered;

	for (registered = 0; registered < nr; registered++) {
		rc = zd_devm_add_action(devm, steps[registered], data);
		if (rc)
			break;
	}
	if (!rc)
		return 0;
	while (registered--)
		zd_devm_remove_action(devm, steps[registered], data);
	while (nr--)
		steps[nr](data);
	return rc;
}
