/* SPDX-License-Identifier: MIT */
/*
 * AddressSanitizer's runtime, where it is a library, asks this function of the program for
 * options, and refuses to start when another library comes before it: what it intercepts
 * might go to that one.  The agent's library defines nothing that the runtime intercepts.
 */
__attribute__((visibility("default"))) const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "verify_asan_link_order=0";
}
