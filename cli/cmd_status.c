/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb status and hadb handoff: who leads, and who shall.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { OPT_TO = CLI_OPT_OWN };

static int parse(const struct cli_command *command, const struct option *options, int argc,
                 char **argv, struct cli_client *client, const char **to)
{
    int option;
    while ((option = cli_option(command, argc, argv, options)) != -1) {
        if (option == OPT_TO) {
            *to = optarg;
            continue;
        }
        int r = cli_client_option(client, command, option, optarg);
        if (r != 0) {
            return r;
        }
    }
    if (optind < argc) {
        return cli_usage(command, "'%s' is one argument too many", argv[optind]);
    }
    return cli_client_open(client, command, command == &cli_handoff);
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

static long long number_of(const json_t *object, const char *name)
{
    return (long long)json_integer_value(json_object_get(object, name));
}

static void print_store(const json_t *status, const char *name)
{
    const json_t *store = json_object_get(status, name);
    if (strcmp(text_of(store, "state"), "failing") == 0) {
        printf("%s failing for %lld s (%s): %s\n", name, number_of(store, "for_ms") / 1000,
               text_of(store, "error"), text_of(store, "message"));
    }
}

static void print_table(const json_t *status)
{
    printf("node %s\n", text_of(status, "node"));
    print_store(status, "storage");
    print_store(status, "lease");
    if (text_of(status, "reason")[0]) {
        printf("not ready: %s\n", text_of(status, "reason"));
    }
    printf("%-16s %-10s %-12s %-22s %6s %10s %10s %10s  %s\n", "database", "role", "leader",
           "address", "term", "txid", "durable", "applied", "chain");
    size_t i;
    json_t *db;
    json_array_foreach(json_object_get(status, "databases"), i, db)
    {
        const json_t *leader = json_object_get(db, "leader");
        printf("%-16s %-10s %-12s %-22s %6lld %10lld %10lld %10lld  %.12s\n", text_of(db, "name"),
               text_of(db, "role"), text_of(leader, "node"), text_of(leader, "address"),
               number_of(db, "term"), number_of(db, "txid"), number_of(db, "durable_txid"),
               number_of(db, "applied_txid"), text_of(db, "chain_hash"));
        if (text_of(db, "reason")[0]) {
            printf("%-16s %s\n", "", text_of(db, "reason"));
        }
    }
}

static int run_status(int argc, char **argv)
{
    static const struct option options[] = {CLI_CLIENT_OPTIONS, {0}};
    struct cli_client client = {0};
    struct cli_reply reply = {0};
    int r = parse(&cli_status, options, argc, argv, &client, NULL);
    if (r == 0) {
        cli_request(&client, "GET", "/v1/status", NULL, 0, &reply);
        r = reply.status == 200 ? CLI_OK : cli_reply_failed(&client, &reply);
    }
    if (r == 0) {
        json_t *status = json_loadb((const char *)reply.body.data, reply.body.len, 0, NULL);
        if (status == NULL) {
            r = cli_fail(CLI_FAILED, "%s answered something that is no status",
                         cli_node_asked(&client));
        } else if (client.json) {
            r = cli_print_json(json_incref(status));
        } else {
            print_table(status);
        }
        json_decref(status);
    }
    cli_reply_deinit(&reply);
    cli_client_close(&client);
    return r;
}

static int run_handoff(int argc, char **argv)
{
    static const struct option options[] = {
        CLI_CLIENT_OPTIONS, CLI_DB_OPTION, {"to", required_argument, NULL, OPT_TO}, {0}};
    struct cli_client client = {0};
    struct cli_reply reply = {0};
    const char *to = NULL;
    int r = parse(&cli_handoff, options, argc, argv, &client, &to);
    char *path = r == 0 ? cli_db_path(&client, "handoff", NULL, 0, NULL) : NULL;
    json_t *request = to ? json_pack("{s:s}", "to", to) : NULL;
    char *body = request ? json_dumps(request, JSON_COMPACT) : NULL;
    if (r == 0) {
        cli_request(&client, "POST", path, body ? body : "", body ? strlen(body) : 0, &reply);
        r = reply.status == 200 ? CLI_OK : cli_reply_failed(&client, &reply);
    }
    if (r == 0 && client.json) {
        r = cli_print_json(
            json_pack("{s:s, s:s}", "database", client.database, "to", to ? to : ""));
    } else if (r == 0) {
        printf("%s: handed over%s%s\n", client.database, to ? " to " : "", to ? to : "");
    }
    free(body);
    free(path);
    json_decref(request);
    cli_reply_deinit(&reply);
    cli_client_close(&client);
    return r;
}

const struct cli_command cli_status = {
    .name = "status",
    .usage = "[options]",
    .summary = "show databases, roles and positions of a node",
    .help = CLI_CLIENT_HELP,
    .run = run_status,
};
const struct cli_command cli_handoff = {
    .name = "handoff",
    .usage = "[options] [--to NODE]",
    .summary = "move leadership of a database without losing a write",
    .help = "  --db NAME           database (or HADB_DB)\n"
            "  --to NODE           name of the successor; without it any node may "
            "follow\n" CLI_CLIENT_HELP,
    .run = run_handoff,
};
