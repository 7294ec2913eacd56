/* SPDX-License-Identifier: MIT */
/* The command: a table of commands, each a function in its own file. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <zonedev.h>

#include "tools/cmd.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{ "run", cmd_run, "run a program with part of its memory on a device" },
	{ "stat", cmd_stat, "how runs stand: RAM, devices, faults" },
	{ "serve", cmd_serve, "serve a region of persistent memory to NBD clients" },
	{ "remove", cmd_remove, "take a device from a run, or a region from its clients" },
	{ "add", cmd_add, "bring it back" },
	{ "check", cmd_check, "examine a region that is not in use, and mend it" },
	{ "info", cmd_info, "what this host can do" },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int help(void)
{
	printf("usage: zonedev COMMAND [OPTION...]\n"
	       "\n"
	       "Memory that belongs to a device trades places with a program's RAM.\n"
	       "\n"
	       "Commands:\n");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].summary);
	printf("  %-10s this text\n"
	       "\n"
	       "Options:\n"
	       "  --help, -h  this text\n"
	       "  --version   the version\n"
	       "\n"
	       "`zonedev COMMAND --help` and `man zonedev-COMMAND` say more.\n",
	       "help");
	return 0;
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}

static bool is_help(const char *option)
{
	return !strcmp(option, "--help") || !strcmp(option, "-h");
}

/* `zonedev help run` is `zonedev run --help`. */
static int help_command(const char *name)
{
	const struct command *cmd = find_command(name);
	char *argv[] = { (char *)name, (char *)"--help", NULL };

	if (!cmd)
		return cmd_error("no command '%s' (try: zonedev help)", name);
	return cmd->run(2, argv);
}

int main(int argc, char **argv)
{
	const struct command *cmd;

	if (argc < 2)
		return cmd_error("which command? (try: zonedev help)");
	if (!strcmp(argv[1], "help") && argc > 2 && !is_help(argv[2]))
		return help_command(argv[2]);
	if (!strcmp(argv[1], "help") || is_help(argv[1]))
		return help();
	if (!strcmp(argv[1], "--version")) {
		printf("zonedev %s\n", zd_version());
		return 0;
	}
	if (argv[1][0] == '-')
		return cmd_error("no option '%s' (try: zonedev help)", argv[1]);

	cmd = find_command(argv[1]);
	if (!cmd)
		return cmd_error("no command '%s' (try: zonedev help)", argv[1]);
	return cmd->run(argc - 1, argv + 1);
}
