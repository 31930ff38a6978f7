/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb put, get, del: one key through any node. Values are raw bytes on stdin and stdout.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { OPT_IF_ABSENT = CLI_OPT_OWN, OPT_IF_VERSION, OPT_FILE };

struct kv_args {
    struct cli_client client;
    const char *key;
    const char *value; /* put: argument; NULL = read it */
    const char *file;  /* put: --file; NULL or "-" = stdin */
    char query[256];
    bool help;
};

static int parse(const struct cli_command *command, int argc, char **argv, struct kv_args *args)
{
    static const struct option options[] = {
        CLI_SHARED_OPTIONS,
        {"if-absent", no_argument, NULL, OPT_IF_ABSENT},
        {"if-version", required_argument, NULL, OPT_IF_VERSION},
        {"file", required_argument, NULL, OPT_FILE},
        {0},
    };
    const char *if_version = NULL;
    int option;
    int r = 0;
    while (r == 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case CLI_OPT_HELP:
            args->help = true;
            return 0;
        case OPT_IF_ABSENT:
            strcpy(args->query, "if_absent");
            break;
        case OPT_IF_VERSION:
            if_version = optarg;
            break;
        case OPT_FILE:
            args->file = optarg;
            break;
        default:
            r = cli_client_option(&args->client, command, option, optarg);
            break;
        }
    }
    if (r != 0) {
        return r;
    }
    if (optind >= argc) {
        return cli_usage(command, "which key?");
    }
    args->key = argv[optind++];
    args->value = optind < argc && command == &cli_put ? argv[optind++] : NULL;
    if (optind < argc) {
        return cli_usage(command, "'%s' is one argument too many", argv[optind]);
    }
    r = cli_client_open(&args->client, command, true);
    if (r == 0 && if_version != NULL &&
        !cli_query_add(&args->client, args->query, sizeof args->query, "if_version", if_version)) {
        r = cli_usage(command, "--if-version '%s' is too long", if_version);
    }
    return r;
}

static int run_request(const struct cli_command *command, struct kv_args *args, const char *method,
                       const struct hadb_buf *body, struct cli_reply *reply)
{
    char *path = cli_db_path(&args->client, "kv", args->key, strlen(args->key), args->query);
    if (path == NULL) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    (void)command;
    cli_request(&args->client, method, path,
                body ? (body->data ? (const void *)body->data : "") : NULL, body ? body->len : 0,
                reply);
    free(path);
    return reply->status == 200 ? CLI_OK : cli_reply_failed(&args->client, reply);
}

static int print_written(const struct kv_args *args, const struct cli_reply *reply)
{
    if (args->client.json) {
        return cli_print_json(json_pack("{s:s, s:s, s:s, s:s}", "key", args->key, "version",
                                        reply->version, "bookmark", reply->bookmark, "request_id",
                                        reply->request_id));
    }
    printf("%s\n", reply->version);
    return CLI_OK;
}

static int read_value(const struct kv_args *args, struct hadb_buf *out)
{
    if (args->value != NULL) {
        return cli_append(out, args->value, strlen(args->value))
                   ? CLI_OK
                   : cli_fail(CLI_FAILED, "out of memory");
    }
    bool from_stdin = args->file == NULL || strcmp(args->file, "-") == 0;
    FILE *in = from_stdin ? stdin : fopen(args->file, "re");
    if (in == NULL) {
        return cli_fail(CLI_FAILED, "%s: %s", args->file, strerror(errno));
    }
    bool ok = cli_read_all(in, HADB_VALUE_BYTES_MAX, out);
    int saved = errno;
    if (!from_stdin) {
        fclose(in);
    }
    if (!ok && saved == EFBIG) {
        return cli_fail(CLI_FAILED, "the value is larger than %u bytes", HADB_VALUE_BYTES_MAX);
    }
    return ok ? CLI_OK : cli_fail(CLI_FAILED, "reading the value: %s", strerror(saved));
}

static int run_put(int argc, char **argv)
{
    struct kv_args args = {0};
    struct hadb_buf value = {0};
    struct cli_reply reply = {0};
    int r = parse(&cli_put, argc, argv, &args);
    if (r == 0 && args.help) {
        return cli_help(&cli_put);
    }
    r = r != 0 ? r : read_value(&args, &value);
    r = r != 0 ? r : run_request(&cli_put, &args, "PUT", &value, &reply);
    r = r != 0 ? r : print_written(&args, &reply);
    cli_reply_deinit(&reply);
    cli_buf_free(&value);
    cli_client_close(&args.client);
    return r;
}

static int run_del(int argc, char **argv)
{
    struct kv_args args = {0};
    struct cli_reply reply = {0};
    int r = parse(&cli_del, argc, argv, &args);
    if (r == 0 && args.help) {
        return cli_help(&cli_del);
    }
    r = r != 0 ? r : run_request(&cli_del, &args, "DELETE", NULL, &reply);
    r = r != 0 ? r : print_written(&args, &reply);
    cli_reply_deinit(&reply);
    cli_client_close(&args.client);
    return r;
}

static int print_value(const struct kv_args *args, const struct cli_reply *reply)
{
    if (!args->client.json) {
        size_t written = fwrite(reply->body.data, 1, reply->body.len, stdout);
        return written == reply->body.len && fflush(stdout) == 0
                   ? CLI_OK
                   : cli_fail(CLI_FAILED, "cannot write the value: %s", strerror(errno));
    }
    json_t *out = json_pack("{s:s}", "key", args->key);
    cli_json_bytes(out, "value", reply->body.data, reply->body.len);
    json_object_set_new(out, "version", json_string(reply->version));
    json_object_set_new(out, "bookmark", json_string(reply->bookmark));
    return cli_print_json(out);
}

static int run_get(int argc, char **argv)
{
    struct kv_args args = {0};
    struct cli_reply reply = {0};
    int r = parse(&cli_get, argc, argv, &args);
    if (r == 0 && args.help) {
        return cli_help(&cli_get);
    }
    r = r != 0 ? r : run_request(&cli_get, &args, "GET", NULL, &reply);
    r = r != 0 ? r : print_value(&args, &reply);
    cli_reply_deinit(&reply);
    cli_client_close(&args.client);
    return r;
}

#define WRITE_HELP                                                                               \
    "  --db NAME           database (or HADB_DB)\n"                                              \
    "  --if-absent         only if there is no such key (put)\n"                                 \
    "  --if-version V      only if the key still has version V\n"                                \
    "  --ack MODE          async, local, durable or both; default: as the database was opened\n" \
    "  --request-id UUID   UUIDv7; the same id never takes effect twice\n"

const struct cli_command cli_put = {
    .name = "put",
    .usage = "[options] KEY [VALUE]",
    .summary = "store a value; prints its version",
    .help = "Without VALUE it is read from --file FILE or standard input.\n\n"
            "  --file FILE         read the value from FILE\n" WRITE_HELP CLI_SHARED_HELP,
    .run = run_put,
};
const struct cli_command cli_del = {
    .name = "del",
    .usage = "[options] KEY",
    .summary = "remove a key; an absent key is fine",
    .help = WRITE_HELP CLI_SHARED_HELP,
    .run = run_del,
};
const struct cli_command cli_get = {
    .name = "get",
    .usage = "[options] KEY",
    .summary = "print the value of a key, byte for byte",
    .help = "Exit code 3 if there is no such key.\n\n"
            "  --db NAME           database (or HADB_DB)\n"
            "  --read LEVEL        any, bookmark or linearizable (default)\n"
            "  --bookmark B        wait for a state that covers B\n" CLI_SHARED_HELP,
    .run = run_get,
};
