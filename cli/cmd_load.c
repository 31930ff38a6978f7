/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb load: many records from a file, in batches, each with its own request id, so that a batch
 * whose answer was lost is sent again and still happens once.
 *
 * Formats: jsonl (one {"key","value"} object per line, as `hadb scan --json` prints), tsv (KEY<tab>VALUE lines),
 * stanza (paragraphs of "Field: value" lines, keyed by one field, as in dpkg's status file).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/cli.h"

#define BATCH_LEN_DEFAULT 200u
#define BATCH_LEN_MAX 10000u
#define BATCH_BYTES_MAX (4u << 20)
#define RECORD_BYTES_MAX (96u << 20) /* one record in its text form */
#define TRIES_MAX 20u

enum { OPT_FORMAT = CLI_OPT_OWN, OPT_KEY_FIELD, OPT_BATCH };

struct load {
    struct cli_client client;
    const char *path, *format, *key_field;
    uint64_t batch_len;
    FILE *in;
    uint64_t line, records, batches, retries, bytes;
    json_t *ops;
    size_t ops_bytes;
    struct cli_progress progress;
};

static int parse(int argc, char **argv, struct load *load)
{
    static const struct option options[] = {
        CLI_CLIENT_OPTIONS,
        CLI_DB_OPTION,
        CLI_ACK_OPTION,
        {"format", required_argument, NULL, OPT_FORMAT},
        {"key-field", required_argument, NULL, OPT_KEY_FIELD},
        {"batch", required_argument, NULL, OPT_BATCH},
        {0},
    };
    int option;
    int r = 0;
    while (r == 0 && (option = cli_option(&cli_load, argc, argv, options)) != -1) {
        switch (option) {
        case OPT_FORMAT:
            load->format = optarg;
            break;
        case OPT_KEY_FIELD:
            load->key_field = optarg;
            break;
        case OPT_BATCH:
            r = cli_number(&cli_load, "batch", optarg, 1, BATCH_LEN_MAX, &load->batch_len);
            break;
        default:
            r = cli_client_option(&load->client, &cli_load, option, optarg);
            break;
        }
    }
    if (r != 0) {
        return r;
    }
    if (strcmp(load->format, "jsonl") != 0 && strcmp(load->format, "tsv") != 0 &&
        strcmp(load->format, "stanza") != 0) {
        return cli_usage(&cli_load, "--format '%s': use jsonl, tsv or stanza", load->format);
    }
    load->path = optind < argc ? argv[optind++] : "-";
    if (optind < argc) {
        return cli_usage(&cli_load, "'%s' is one argument too many", argv[optind]);
    }
    return cli_client_open(&load->client, &cli_load, true);
}

static void pause_ms(unsigned ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

/* Sends what is collected; the same request id until the outcome is definite. */
static int send_batch(struct load *load)
{
    if (json_array_size(load->ops) == 0) {
        return CLI_OK;
    }
    json_t *request = json_pack("{s:O}", "ops", load->ops);
    char *body = request ? json_dumps(request, JSON_COMPACT) : NULL;
    char *path = cli_db_path(&load->client, "batch", NULL, 0, NULL);
    char id[37];
    struct cli_reply reply = {0};
    int r = body && path ? CLI_UNAVAILABLE : cli_fail(CLI_FAILED, "out of memory");
    uint64_t deadline_ms =
        load->client.deadline_ms ? load->client.deadline_ms : HADB_DEADLINE_MS_DEFAULT;
    double connect_until_s = cli_now_s() + (double)deadline_ms / 1000;
    cli_request_id(id);
    load->client.request_id = id;
    for (unsigned i = 0; i < TRIES_MAX && r == CLI_UNAVAILABLE; i++) {
        cli_request(&load->client, "POST", path, body, strlen(body), &reply);
        bool again = reply.status == 503 || reply.status == 504 ||
                     (reply.status == 0 && (reply.maybe_done || cli_now_s() < connect_until_s));
        if (reply.status == 200) {
            r = CLI_OK;
        } else if (!again || i + 1 == TRIES_MAX) {
            r = cli_reply_failed(&load->client, &reply);
            break;
        } else {
            load->retries++;
            pause_ms(50u * (i + 1));
        }
    }
    load->client.request_id = NULL;
    load->records += r == CLI_OK ? json_array_size(load->ops) : 0;
    load->batches += r == CLI_OK;
    json_array_clear(load->ops);
    load->ops_bytes = 0;
    if (load->progress.total != 0) {
        cli_progress_show(&load->progress, (uint64_t)ftello(load->in), "bytes");
    } else {
        cli_progress_show(&load->progress, load->records, "records");
    }
    cli_reply_deinit(&reply);
    json_decref(request);
    free(body);
    free(path);
    return r;
}

static int add_record(struct load *load, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    json_t *op = json_pack("{s:s}", "op", "put");
    cli_json_bytes(op, "key", key, key_len);
    cli_json_bytes(op, "value", value, value_len);
    json_array_append_new(load->ops, op);
    load->ops_bytes += key_len + value_len;
    load->bytes += key_len + value_len;
    bool full = json_array_size(load->ops) >= load->batch_len || load->ops_bytes >= BATCH_BYTES_MAX;
    return full ? send_batch(load) : CLI_OK;
}

static int bad_record(const struct load *load, const char *why)
{
    return cli_fail(CLI_FAILED, "%s:%llu: %s; %llu records were loaded", load->path,
                    (unsigned long long)load->line, why, (unsigned long long)load->records);
}

static int take_jsonl(struct load *load, const char *line, size_t len)
{
    json_error_t error;
    json_t *object = json_loadb(line, len, JSON_ALLOW_NUL, &error);
    struct hadb_buf key = {0};
    struct hadb_buf value = {0};
    int r;
    if (object == NULL) {
        r = bad_record(load, error.text);
    } else if (cli_json_take_bytes(object, "key", &key) != 1 ||
               cli_json_take_bytes(object, "value", &value) != 1) {
        r = bad_record(load, "needs \"key\" and \"value\" (or key_base64, value_base64)");
    } else {
        r = add_record(load, key.data, key.len, value.data, value.len);
    }
    cli_buf_free(&key);
    cli_buf_free(&value);
    json_decref(object);
    return r;
}

static int take_tsv(struct load *load, const char *line, size_t len)
{
    const char *tab = memchr(line, '\t', len);
    if (tab == NULL) {
        return bad_record(load, "there is no tab between key and value");
    }
    return add_record(load, line, (size_t)(tab - line), tab + 1, len - (size_t)(tab - line) - 1);
}

static int load_lines(struct load *load, int (*take)(struct load *, const char *, size_t))
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    int r = CLI_OK;
    while (r == CLI_OK && (len = getline(&line, &cap, load->in)) >= 0) {
        load->line++;
        len -= len > 0 && line[len - 1] == '\n';
        r = len > 0 ? take(load, line, (size_t)len) : CLI_OK;
    }
    free(line);
    return r;
}

/* One paragraph; its key is the value of the key field. */
static int take_stanza(struct load *load, const struct hadb_buf *stanza)
{
    size_t field_len = strlen(load->key_field);
    const char *at = (const char *)stanza->data;
    const char *end = at + stanza->len;
    while (at < end) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        eol = eol ? eol : end;
        if ((size_t)(eol - at) > field_len && strncmp(at, load->key_field, field_len) == 0 &&
            at[field_len] == ':') {
            at += field_len + 1;
            at += strspn(at, " \t");
            return add_record(load, at, (size_t)(eol - at), stanza->data, stanza->len);
        }
        at = eol + 1;
    }
    char why[128];
    snprintf(why, sizeof why, "the paragraph that ends here has no field '%s'", load->key_field);
    return bad_record(load, why);
}

static int load_stanzas(struct load *load)
{
    struct hadb_buf stanza = {0};
    char *line = NULL;
    size_t cap = 0;
    int r = CLI_OK;
    for (bool more = true; r == CLI_OK && more;) {
        ssize_t len = getline(&line, &cap, load->in);
        more = len >= 0;
        load->line += more;
        if (more && len > 1) {
            bool fits = stanza.len + (size_t)len <= RECORD_BYTES_MAX;
            r = fits && cli_append(&stanza, line, (size_t)len)
                    ? CLI_OK
                    : bad_record(load, "the paragraph is too big");
        } else if (stanza.len > 0) {
            r = take_stanza(load, &stanza);
            stanza.len = 0;
        }
    }
    free(line);
    cli_buf_free(&stanza);
    return r;
}

static int load_all(struct load *load)
{
    load->in = strcmp(load->path, "-") == 0 ? stdin : fopen(load->path, "re");
    if (load->in == NULL) {
        return cli_fail_file(load->path, errno);
    }
    struct stat facts;
    bool sized = fstat(fileno(load->in), &facts) == 0 && S_ISREG(facts.st_mode);
    load->ops = json_array();
    cli_progress_start(&load->progress, "load", sized ? (uint64_t)facts.st_size : 0);
    int r = strcmp(load->format, "stanza") == 0
                ? load_stanzas(load)
                : load_lines(load, strcmp(load->format, "tsv") == 0 ? take_tsv : take_jsonl);
    if (r == CLI_OK && ferror(load->in)) {
        r = cli_fail_file(load->path, errno);
    }
    r = r != CLI_OK ? r : send_batch(load);
    cli_progress_end(&load->progress);
    json_decref(load->ops);
    if (load->in != stdin) {
        fclose(load->in);
    }
    return r;
}

static int run_load(int argc, char **argv)
{
    struct load load = {.format = "jsonl", .key_field = "Package", .batch_len = BATCH_LEN_DEFAULT};
    int r = parse(argc, argv, &load);
    double started_s = cli_now_s();
    r = r != 0 ? r : load_all(&load);
    double took_s = cli_now_s() - started_s;
    if (r == CLI_OK && load.client.json) {
        r = cli_print_json(json_pack("{s:I, s:I, s:I, s:I, s:f}", "records",
                                     (json_int_t)load.records, "bytes", (json_int_t)load.bytes,
                                     "batches", (json_int_t)load.batches, "retries",
                                     (json_int_t)load.retries, "seconds", took_s));
    } else if (r == CLI_OK) {
        printf("%llu records, %llu bytes, %llu batches in %.2f s\n",
               (unsigned long long)load.records, (unsigned long long)load.bytes,
               (unsigned long long)load.batches, took_s);
    }
    cli_client_close(&load.client);
    return r;
}

const struct cli_command cli_load = {
    .name = "load",
    .usage = "[options] [FILE]",
    .summary = "store many records from a file or standard input",
    .help =
        "Batches are transactions; a batch whose answer was lost is repeated with its request id "
        "and\n"
        "happens once.\n\n"
        "  --db NAME           database (or HADB_DB)\n"
        "  --format F          jsonl (default; what `hadb scan --json` prints), tsv, or stanza\n"
        "                      (paragraphs of 'Field: value' lines, such as dpkg's status file)\n"
        "  --key-field F       stanza: the field that is the key (default Package)\n"
        "  --batch N           records per transaction (default 200)\n"
        "  --ack MODE          async, local, durable or both\n" CLI_CLIENT_HELP,
    .run = run_load,
};
