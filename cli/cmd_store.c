/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb restore, verify, inspect: what storage alone tells, without any node.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "hadb/changeset.h"
#include "hadb/restore.h"

enum { OPT_STORE = CLI_OPT_OWN, OPT_OUTPUT, OPT_TO };

struct store_args {
    const char *store, *database, *output, *to;
    uint64_t to_slot;
    bool json, to_slot_set;
};

/* clang-format off */
#define STORE_OPTIONS \
    {"store", required_argument, NULL, OPT_STORE}, CLI_DB_OPTION, {"json", no_argument, NULL, CLI_OPT_JSON}
/* clang-format on */

static int parse(const struct cli_command *command, const struct option *options, int argc,
                 char **argv, struct store_args *args)
{
    int option;
    while ((option = cli_option(command, argc, argv, options)) != -1) {
        switch (option) {
        case OPT_STORE:
            args->store = optarg;
            break;
        case OPT_OUTPUT:
            args->output = optarg;
            break;
        case OPT_TO:
            args->to = optarg;
            break;
        case CLI_OPT_DB:
            args->database = optarg;
            break;
        case CLI_OPT_JSON:
            args->json = true;
            break;
        default:
            return CLI_USAGE;
        }
    }
    if (optind < argc) {
        return cli_usage(command, "'%s' is one argument too many", argv[optind]);
    }
    args->database = args->database ? args->database : getenv("HADB_DB");
    if (args->store == NULL || args->database == NULL || args->database[0] == '\0') {
        return cli_usage(command, "needs --store URL and --db NAME");
    }
    if (strncmp(args->store, "mem:", 4) == 0) {
        return cli_usage(command,
                         "--store '%s': memory belongs to the process of a node; only "
                         "storage outside of it can be read here",
                         args->store);
    }
    if (args->to != NULL && strcmp(args->to, "latest") != 0) {
        args->to_slot_set = true;
        int r = cli_number(command, "to", args->to, 1, UINT64_MAX, &args->to_slot);
        if (r != 0) {
            return r;
        }
    }
    if (command == &cli_restore && args->output == NULL) {
        return cli_usage(command, "needs --output FOLDER, which must be new");
    }
    return 0;
}

static void on_progress(void *arg, const struct hadb_restore_progress *progress)
{
    cli_progress_show(arg, progress->txid, progress->stage);
}

static void hex(const struct hadb_hash *hash, char out[65])
{
    for (int i = 0; i < 32; i++) {
        snprintf(out + 2 * i, 3, "%02x", hash->b[i]);
    }
}

static int print_result(const struct store_args *args, const char *verb,
                        const struct hadb_restore_result *result, double took_s)
{
    char chain[65];
    char digest[65];
    hex(&result->pos.hash, chain);
    hex(&result->digest, digest);
    if (args->json) {
        return cli_print_json(json_pack(
            "{s:s, s:I, s:I, s:I, s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "database",
            args->database, "term", (json_int_t)result->pos.term, "slot",
            (json_int_t)result->pos.slot, "txid", (json_int_t)result->pos.txid, "chain_hash", chain,
            "keys", (json_int_t)result->keys, "digest", digest, "snapshot_slot",
            (json_int_t)result->snapshot_slot, "snapshots", (json_int_t)result->snapshots,
            "entries", (json_int_t)result->entries, "seals", (json_int_t)result->seals,
            "transactions", (json_int_t)result->transactions, "bytes", (json_int_t)result->bytes,
            "seconds", took_s));
    }
    printf("%s %s: transaction %llu (term %llu, slot %llu), %llu keys\n", verb, args->database,
           (unsigned long long)result->pos.txid, (unsigned long long)result->pos.term,
           (unsigned long long)result->pos.slot, (unsigned long long)result->keys);
    printf("  read      %llu snapshots, %llu log entries, %llu seals, %llu bytes in %.2f s\n",
           (unsigned long long)result->snapshots, (unsigned long long)result->entries,
           (unsigned long long)result->seals, (unsigned long long)result->bytes, took_s);
    printf("  verified  every object's hash and the chain up to %s\n", chain);
    printf("  digest    %s\n", digest);
    return CLI_OK;
}

static int run_store(const struct cli_command *command, const struct option *list, int argc,
                     char **argv, const char *verb,
                     int (*work)(struct hadb_storage *, const struct hadb_restore_options *,
                                 struct hadb_restore_result *, struct hadb_error *))
{
    struct store_args args = {0};
    int r = parse(command, list, argc, argv, &args);
    if (r != 0) {
        return r;
    }
    struct hadb_error err = {0};
    struct hadb_storage storage = {0};
    if (hadb_storage_open(args.store, NULL, &storage, &err) != 0) {
        return cli_fail_error(&err);
    }
    struct cli_progress progress;
    cli_progress_start(&progress, command->name, 0);
    struct hadb_restore_options options = HADB_RESTORE_OPTIONS_INIT;
    options.database = args.database;
    options.output = args.output;
    options.to_slot_set = args.to_slot_set;
    options.to_slot = args.to_slot;
    options.on_progress = on_progress;
    options.progress_arg = &progress;
    struct hadb_restore_result result;
    double started_s = cli_now_s();
    r = work(&storage, &options, &result, &err);
    cli_progress_end(&progress);
    hadb_storage_close(&storage);
    if (r == HADB_ETIMEDOUT) {
        err.code = HADB_EUNAVAIL; /* a read: nothing is left open */
    }
    return r != 0 ? cli_fail_error(&err)
                  : print_result(&args, verb, &result, cli_now_s() - started_s);
}

static int run_restore(int argc, char **argv)
{
    static const struct option options[] = {STORE_OPTIONS,
                                            {"output", required_argument, NULL, OPT_OUTPUT},
                                            {"to", required_argument, NULL, OPT_TO},
                                            {0}};
    return run_store(&cli_restore, options, argc, argv, "restored", hadb_restore);
}

static int run_verify(int argc, char **argv)
{
    static const struct option options[] = {STORE_OPTIONS, {0}};
    return run_store(&cli_verify, options, argc, argv, "verified", hadb_verify);
}

static int run_inspect(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, CLI_OPT_JSON}, {0}};
    bool json = false;
    int option;
    while ((option = cli_option(&cli_inspect, argc, argv, options)) != -1) {
        if (option != CLI_OPT_JSON) {
            return CLI_USAGE;
        }
        json = true;
    }
    if (optind + 1 != argc) {
        return cli_usage(&cli_inspect, optind == argc ? "which file?" : "one file at a time");
    }
    struct hadb_error err = {0};
    struct hadb_buf text = {0};
    int r = hadb_inspect_file(argv[optind], json, &text, &err);
    if (r == HADB_ABSENT) {
        r = cli_fail(CLI_ABSENT, "%s: no such file", argv[optind]);
    } else if (r != 0) {
        r = cli_fail_error(&err);
    } else if (fwrite(text.data, 1, text.len, stdout) != text.len) {
        r = cli_output_failed();
    }
    hadb_buf_deinit(&text);
    return r;
}

#define STORE_HELP                                                                       \
    "  --store URL         where the history lies (file:///dir, s3://…, http://…)\n" \
    "  --db NAME           database (or HADB_DB)\n"

const struct cli_command cli_restore = {
    .name = "restore",
    .usage = "--store URL --db NAME --output FOLDER",
    .summary = "rebuild a database from storage into a new folder",
    .help = "Reads the newest snapshot and the log behind it, verifies every hash, and makes "
            "FOLDER appear\n"
            "whole at the very end. `hadb scan --dir FOLDER` reads it.\n\n" STORE_HELP
            "  --output FOLDER     must not exist, or be empty\n"
            "  --to latest|SLOT    the end of the log (default), or the state behind a slot of it\n"
            "  --json              one JSON object on stdout; errors, too, but on stderr\n",
    .run = run_restore,
};
const struct cli_command cli_verify = {
    .name = "verify",
    .usage = "--store URL --db NAME",
    .summary = "read a whole history and check every hash and link",
    .help =
        "Exit code 7 and the name of the object if something is missing or damaged. Needs memory "
        "for one\n"
        "copy of the database.\n\n" STORE_HELP
        "  --json              one JSON object on stdout; errors, too, but on stderr\n",
    .run = run_verify,
};
const struct cli_command cli_inspect = {
    .name = "inspect",
    .usage = "[--json] FILE",
    .summary = "describe one stored object (.hadbj): header, hashes, contents",
    .help = "  --json              one JSON object on stdout; errors, too, but on stderr\n",
    .run = run_inspect,
};
