/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program hadb: picks the command. One table drives dispatch and help.
 *
 * Thread: one. Happy path: shared options before the command move behind it, --help is answered here, the command runs, and
 * what it printed is flushed. Failure: an unknown command is one line and exit code 2; output that could not be
 * written is exit code 1; a reader that went away ends the program by SIGPIPE, quietly, as it does any filter.
 */
#include <signal.h>
#include <string.h>

#include "cli/cli.h"

static const struct cli_command *const commands[] = {
    &cli_node,           &cli_put,     &cli_get,    &cli_del,     &cli_scan,    &cli_load,
    &cli_status,         &cli_handoff, &cli_verify, &cli_restore, &cli_inspect, &cli_lease_server,
    &cli_storage_server, &cli_doctor,
};

static int print_overview(FILE *out)
{
    fprintf(out, "usage: hadb COMMAND [options]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        fprintf(out, "  %-14s %s\n", commands[i]->name, commands[i]->summary);
    }
    fprintf(out,
            "\n'hadb COMMAND --help' tells more; 'hadb --version' prints the version.\n"
            "exit codes: 0 done, 1 failed, 2 wrong usage, 3 absent, 4 condition not met,\n"
            "  5 unavailable (surely not done), 6 outcome unknown, 7 corrupt, 8 not authorised\n");
    return out == stdout ? CLI_OK : CLI_USAGE;
}

static const struct cli_command *find(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(name, commands[i]->name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

/* Is @option there, before a "--"? */
static bool has(int argc, char **argv, const char *option)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], option) == 0) {
            return true;
        }
    }
    return false;
}

/* The index of the command: shared options may stand before it. 0: there is none. */
static int command_index(int argc, char **argv)
{
    static const struct option options[] = {
        CLI_CLIENT_OPTIONS, CLI_DB_OPTION,         CLI_READ_OPTIONS,
        CLI_ACK_OPTION,     CLI_REQUEST_ID_OPTION, {0},
    };
    opterr = 0;
    int option;
    while ((option = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
        if (option == '?' || option == ':') {
            return optind - 1;
        }
    }
    return optind < argc ? optind : 0;
}

/* "--json status" becomes "status --json". */
static void move_first(char **argv, int index)
{
    char *name = argv[index];
    memmove(argv + 2, argv + 1, (size_t)(index - 1) * sizeof *argv);
    argv[1] = name;
}

static int help(int argc, char **argv)
{
    if (argc <= 2) {
        return print_overview(stdout);
    }
    const struct cli_command *command = find(argv[2]);
    return command ? cli_help(command)
                   : cli_fail(CLI_USAGE, "unknown command '%s'; 'hadb --help' lists them", argv[2]);
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        return print_overview(stderr);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        return help(argc, argv);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("hadb %s\n", HADB_VERSION);
        return CLI_OK;
    }
    bool json = has(argc, argv, "--json");
    cli_begin(NULL, json);
    int index = command_index(argc, argv);
    if (index == 0) {
        return cli_fail(CLI_USAGE, "which command? 'hadb --help' lists them");
    }
    const struct cli_command *command = find(argv[index]);
    if (command == NULL) {
        return cli_fail(CLI_USAGE, "unknown command '%s'; 'hadb --help' lists them", argv[index]);
    }
    move_first(argv, index);
    cli_begin(command, json);
    if (has(argc - 1, argv + 1, "--help") || has(argc - 1, argv + 1, "-h")) {
        return cli_help(command);
    }
    optind = 0; /* glibc: from the beginning */
    return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_DFL); /* whatever the parent left */
    int r = run(argc, argv);
    bool written = fflush(stdout) == 0 && !ferror(stdout);
    return r == CLI_OK && !written ? cli_output_failed() : r;
}
