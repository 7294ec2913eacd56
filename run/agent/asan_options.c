/* SPDX-License-Identifier: MIT */
/*
 * AddressSanitizer's runtime, where it is a library, refuses to start when another library
 * comes before it: that one might get the calls that the runtime intercepts.  The agent's
 * library defines none of them, and says so by this function, which the runtime asks for
 * options.
 */
__attribute__((visibility("default"))) const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "verify_asan_link_order=0";
}
