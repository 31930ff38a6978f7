/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program hadb: picks the command. One table drives dispatch and help.
 * Failure: an unknown command is one line and exit code 2.
 */
#include <string.h>

#include "cli/cli.h"

static const struct cli_command *const commands[] = {
    &cli_node,   &cli_put,     &cli_get,    &cli_del,     &cli_scan,    &cli_load,
    &cli_status, &cli_handoff, &cli_verify, &cli_restore, &cli_inspect,
};

static void print_overview(FILE *out)
{
    fprintf(out, "usage: hadb COMMAND [options]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        fprintf(out, "  %-8s %s\n", commands[i]->name, commands[i]->summary);
    }
    fprintf(out,
            "\n'hadb COMMAND --help' tells more; 'hadb --version' prints the version.\n"
            "exit codes: 0 done, 1 failed, 2 wrong usage, 3 absent, 4 condition not met,\n"
            "  5 unavailable (surely not done), 6 outcome unknown, 7 corrupt, 8 not authorised\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_overview(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_overview(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("hadb %s\n", HADB_VERSION);
        return CLI_OK;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i]->name) == 0) {
            return commands[i]->run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "hadb: unknown command '%s'; 'hadb --help' lists them\n", argv[1]);
    return CLI_USAGE;
}
