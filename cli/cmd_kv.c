/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb put, get, del: one key through any node. Values are raw bytes on stdin and stdout.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { OPT_IF_ABSENT = CLI_OPT_OWN, OPT_IF_VERSION, OPT_FILE };

struct kv_args {
    struct cli_client client;
    const char *key;
    const char *value; /* put: argument; NULL = read it */
    const char *file;  /* put: --file; NULL or "-" = stdin */
    const char *if_version;
    bool if_absent;
    char query[256];
    char request_id[37]; /* of a write that was given none: its outcome may stay open */
};

/* clang-format off */
static const struct option put_options[] = {
    CLI_CLIENT_OPTIONS, CLI_DB_OPTION, CLI_ACK_OPTION, CLI_REQUEST_ID_OPTION,
    {"if-version", required_argument, NULL, OPT_IF_VERSION},
    {"if-absent", no_argument, NULL, OPT_IF_ABSENT},
    {"file", required_argument, NULL, OPT_FILE},
    {0},
};
static const struct option del_options[] = {
    CLI_CLIENT_OPTIONS, CLI_DB_OPTION, CLI_ACK_OPTION, CLI_REQUEST_ID_OPTION,
    {"if-version", required_argument, NULL, OPT_IF_VERSION},
    {0},
};
static const struct option get_options[] = {CLI_CLIENT_OPTIONS, CLI_DB_OPTION, CLI_READ_OPTIONS, {0}};
/* clang-format on */

static int take_options(const struct cli_command *command, const struct option *options, int argc,
                        char **argv, struct kv_args *args)
{
    int option;
    int r = 0;
    while (r == 0 && (option = cli_option(command, argc, argv, options)) != -1) {
        switch (option) {
        case OPT_IF_ABSENT:
            args->if_absent = true;
            break;
        case OPT_IF_VERSION:
            args->if_version = optarg;
            break;
        case OPT_FILE:
            args->file = optarg;
            break;
        default:
            r = cli_client_option(&args->client, command, option, optarg);
            break;
        }
    }
    return r;
}

static int add_condition(const struct cli_command *command, struct kv_args *args)
{
    if (args->if_absent && args->if_version != NULL) {
        return cli_usage(command, "--if-absent and --if-version exclude each other");
    }
    if (args->if_absent) {
        snprintf(args->query, sizeof args->query, "if_absent");
    }
    if (args->if_version != NULL && !cli_query_add(&args->client, args->query, sizeof args->query,
                                                   "if_version", args->if_version)) {
        return cli_usage(command, "--if-version '%.40s…' is too long", args->if_version);
    }
    return 0;
}

static int parse(const struct cli_command *command, const struct option *options, int argc,
                 char **argv, struct kv_args *args)
{
    int r = take_options(command, options, argc, argv, args);
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
    if (args->key[0] == '\0') {
        return cli_usage(command, "a key has at least one byte");
    }
    if (args->value != NULL && args->file != NULL) {
        return cli_usage(command, "a VALUE and --file exclude each other");
    }
    r = cli_client_open(&args->client, command, true);
    if (r == 0 && command != &cli_get && args->client.request_id == NULL) {
        cli_request_id(args->request_id);
        args->client.request_id = args->request_id;
    }
    return r != 0 ? r : add_condition(command, args);
}

static int run_request(struct kv_args *args, const char *method, const struct hadb_buf *body,
                       struct cli_reply *reply)
{
    char *path = cli_db_path(&args->client, "kv", args->key, strlen(args->key), args->query);
    if (path == NULL) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    cli_request(&args->client, method, path,
                body ? (body->data ? (const void *)body->data : "") : NULL, body ? body->len : 0,
                reply);
    free(path);
    return reply->status == 200 ? CLI_OK : cli_reply_failed(&args->client, reply);
}

static int print_written(const struct kv_args *args, const struct cli_reply *reply)
{
    if (args->client.json) {
        json_t *out = json_object();
        cli_json_bytes(out, "key", args->key, strlen(args->key));
        json_object_set_new(out, "version", json_string(reply->version));
        json_object_set_new(out, "bookmark", json_string(reply->bookmark));
        json_object_set_new(out, "request_id", json_string(reply->request_id));
        return cli_print_json(out);
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
    const char *name = from_stdin ? "standard input" : args->file;
    FILE *in = from_stdin ? stdin : fopen(args->file, "re");
    if (in == NULL) {
        return cli_fail_file(name, errno);
    }
    if (from_stdin && isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1) {
        fprintf(stderr, "hadb put: type the value; Ctrl-D ends it\n");
    }
    bool ok = cli_read_all(in, HADB_VALUE_BYTES_MAX, out);
    int reason = errno;
    if (!from_stdin) {
        fclose(in);
    }
    if (!ok && reason == EFBIG) {
        return cli_fail(CLI_USAGE, "%s: a value has at most %u bytes", name, HADB_VALUE_BYTES_MAX);
    }
    return ok ? CLI_OK : cli_fail_file(name, reason);
}

static int run_put(int argc, char **argv)
{
    struct kv_args args = {0};
    struct hadb_buf value = {0};
    struct cli_reply reply = {0};
    int r = parse(&cli_put, put_options, argc, argv, &args);
    r = r != 0 ? r : read_value(&args, &value);
    r = r != 0 ? r : run_request(&args, "PUT", &value, &reply);
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
    int r = parse(&cli_del, del_options, argc, argv, &args);
    r = r != 0 ? r : run_request(&args, "DELETE", NULL, &reply);
    r = r != 0 ? r : print_written(&args, &reply);
    cli_reply_deinit(&reply);
    cli_client_close(&args.client);
    return r;
}

static int print_value(const struct kv_args *args, const struct cli_reply *reply)
{
    if (!args->client.json) {
        size_t written = fwrite(reply->body.data, 1, reply->body.len, stdout);
        return written == reply->body.len ? CLI_OK : cli_output_failed();
    }
    json_t *out = json_object();
    cli_json_bytes(out, "key", args->key, strlen(args->key));
    cli_json_bytes(out, "value", reply->body.data, reply->body.len);
    json_object_set_new(out, "version", json_string(reply->version));
    json_object_set_new(out, "bookmark", json_string(reply->bookmark));
    return cli_print_json(out);
}

static int run_get(int argc, char **argv)
{
    struct kv_args args = {0};
    struct cli_reply reply = {0};
    int r = parse(&cli_get, get_options, argc, argv, &args);
    r = r != 0 ? r : run_request(&args, "GET", NULL, &reply);
    r = r != 0 ? r : print_value(&args, &reply);
    cli_reply_deinit(&reply);
    cli_client_close(&args.client);
    return r;
}

#define DB_HELP "  --db NAME           database (or HADB_DB)\n"
#define WRITE_HELP                                                                               \
    "  --if-version V      only if the key still has version V\n"                                \
    "  --ack MODE          async, local, durable or both; default: as the database was opened\n" \
    "  --request-id UUID   UUIDv7; the same id never takes effect twice\n"

const struct cli_command cli_put = {
    .name = "put",
    .usage = "[options] KEY [VALUE]",
    .summary = "store a value; prints its version",
    .help =
        "Without VALUE it is read from --file FILE or standard input, byte for byte.\n\n" DB_HELP
        "  --file FILE         read the value from FILE; - is standard input\n"
        "  --if-absent         only if there is no such key\n" WRITE_HELP CLI_CLIENT_HELP,
    .run = run_put,
};
const struct cli_command cli_del = {
    .name = "del",
    .usage = "[options] KEY",
    .summary = "remove a key; an absent key is fine",
    .help = DB_HELP WRITE_HELP CLI_CLIENT_HELP,
    .run = run_del,
};
const struct cli_command cli_get = {
    .name = "get",
    .usage = "[options] KEY",
    .summary = "print the value of a key, byte for byte",
    .help = "Exit code 3 if there is no such key.\n\n" DB_HELP CLI_READ_HELP CLI_CLIENT_HELP,
    .run = run_get,
};
