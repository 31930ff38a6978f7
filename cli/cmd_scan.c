/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb scan: keys in order, from a node (page after page) or from a restored folder.
 * One JSON line per item with --json, which `hadb load` reads back.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

#define PAGE_LEN 1000u

enum { OPT_PREFIX = CLI_OPT_OWN, OPT_START, OPT_END, OPT_LIMIT, OPT_REVERSE, OPT_KEYS, OPT_DIR };

struct scan_args {
    struct cli_client client;
    const char *prefix, *start, *end, *dir;
    uint64_t limit; /* 0 = all */
    bool reverse, keys_only;
    uint64_t printed;
    struct cli_progress progress;
};

static int take_option(struct scan_args *args, int option)
{
    switch (option) {
    case OPT_PREFIX:
        args->prefix = optarg;
        return 0;
    case OPT_START:
        args->start = optarg;
        return 0;
    case OPT_END:
        args->end = optarg;
        return 0;
    case OPT_REVERSE:
        args->reverse = true;
        return 0;
    case OPT_KEYS:
        args->keys_only = true;
        return 0;
    case OPT_DIR:
        args->dir = optarg;
        return 0;
    case OPT_LIMIT:
        return cli_number(&cli_scan, "limit", optarg, 1, INT64_MAX, &args->limit);
    default:
        return cli_client_option(&args->client, &cli_scan, option, optarg);
    }
}

static int parse(int argc, char **argv, struct scan_args *args)
{
    static const struct option options[] = {
        CLI_CLIENT_OPTIONS,
        CLI_DB_OPTION,
        CLI_READ_OPTIONS,
        {"prefix", required_argument, NULL, OPT_PREFIX},
        {"start", required_argument, NULL, OPT_START},
        {"end", required_argument, NULL, OPT_END},
        {"limit", required_argument, NULL, OPT_LIMIT},
        {"reverse", no_argument, NULL, OPT_REVERSE},
        {"keys", no_argument, NULL, OPT_KEYS},
        {"dir", required_argument, NULL, OPT_DIR},
        {0},
    };
    int option;
    while ((option = cli_option(&cli_scan, argc, argv, options)) != -1) {
        int r = take_option(args, option);
        if (r != 0) {
            return r;
        }
    }
    if (optind < argc) {
        return cli_usage(&cli_scan, "'%s' is one argument too many", argv[optind]);
    }
    if (args->dir != NULL && (args->client.node || args->client.database || args->client.read ||
                              args->client.bookmark)) {
        return cli_usage(&cli_scan, "--dir asks no node: --node, --db, --read and --bookmark do "
                                    "not go with it");
    }
    return args->dir ? 0 : cli_client_open(&args->client, &cli_scan, true);
}

static void print_item(struct scan_args *args, struct hadb_slice key, struct hadb_slice value,
                       const char *version)
{
    args->printed++;
    cli_progress_show(&args->progress, args->printed, "items");
    if (!args->client.json) {
        fwrite(key.data, 1, key.len, stdout);
        if (!args->keys_only) {
            fputc('\t', stdout);
            fwrite(value.data, 1, value.len, stdout);
        }
        fputc('\n', stdout);
        return;
    }
    json_t *out = json_object();
    cli_json_bytes(out, "key", key.data, key.len);
    if (!args->keys_only) {
        cli_json_bytes(out, "value", value.data, value.len);
    }
    json_object_set_new(out, "version", json_string(version));
    json_dumpf(out, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
    fputc('\n', stdout);
    json_decref(out);
}

/* At the end of each page: out with it, and no further page once stdout does not take them. */
static int flush_page(void)
{
    return fflush(stdout) == 0 && !ferror(stdout) ? CLI_OK : cli_output_failed();
}

/* Prints one page; @last becomes its last key. Negative: the reply is malformed. */
static int print_page(struct scan_args *args, const struct cli_reply *reply, struct hadb_buf *last,
                      bool *more)
{
    json_t *page =
        json_loadb((const char *)reply->body.data, reply->body.len, JSON_ALLOW_NUL, NULL);
    json_t *items = json_object_get(page, "items");
    size_t i;
    json_t *item;
    int count = json_is_array(items) ? 0 : -1;
    struct hadb_buf value = {0};
    json_array_foreach(items, i, item)
    {
        cli_json_take_bytes(item, "key", last);
        cli_json_take_bytes(item, "value", &value);
        print_item(args, (struct hadb_slice){last->data, last->len},
                   (struct hadb_slice){value.data, value.len},
                   json_string_value(json_object_get(item, "version")));
        count++;
    }
    const json_t *next = json_object_get(page, "next");
    const json_t *next64 = json_object_get(page, "next_base64");
    *more = json_is_string(next) || json_is_string(next64);
    cli_buf_free(&value);
    json_decref(page);
    return count;
}

static bool add_bytes(struct scan_args *args, char *query, size_t cap, const char *name,
                      const char *text)
{
    return text == NULL || cli_query_add(&args->client, query, cap, name, text);
}

/* The next page starts right behind the last key (or, in reverse, ends right before it). */
static bool add_cursor(const struct scan_args *args, char *query, size_t cap,
                       const struct hadb_buf *last)
{
    size_t len = strlen(query);
    int at = snprintf(query + len, cap - len, "&%s=", args->reverse ? "end" : "start");
    len += (size_t)at;
    for (size_t i = 0; i < last->len && len + 8 < cap; i++) {
        len += (size_t)snprintf(query + len, cap - len, "%%%02X", last->data[i]);
    }
    if (!args->reverse) {
        len += (size_t)snprintf(query + len, cap - len, "%%00");
    }
    return len + 8 < cap;
}

static int scan_node(struct scan_args *args)
{
    enum { QUERY_BYTES = 3 * HADB_KEY_BYTES_MAX + 4096 };
    struct cli_reply reply = {0};
    struct hadb_buf last = {0};
    char *query = malloc(QUERY_BYTES);
    uint64_t left = args->limit ? args->limit : UINT64_MAX;
    bool more = query != NULL;
    int r = query ? CLI_OK : cli_fail(CLI_FAILED, "out of memory");
    while (r == CLI_OK && more && left > 0) {
        unsigned page_len = (unsigned)(left < PAGE_LEN ? left : PAGE_LEN);
        snprintf(query, QUERY_BYTES, "limit=%u%s", page_len, args->reverse ? "&reverse" : "");
        bool fits = add_bytes(args, query, QUERY_BYTES, "prefix", args->prefix);
        bool cursor_is_end = last.len != 0 && args->reverse;
        bool cursor_is_start = last.len != 0 && !args->reverse;
        fits =
            fits && (cursor_is_start || add_bytes(args, query, QUERY_BYTES, "start", args->start));
        fits = fits && (cursor_is_end || add_bytes(args, query, QUERY_BYTES, "end", args->end));
        fits = fits && (last.len == 0 || add_cursor(args, query, QUERY_BYTES, &last));
        char *path = fits ? cli_db_path(&args->client, "scan", NULL, 0, query) : NULL;
        if (path == NULL) {
            r = cli_fail(CLI_USAGE, "--prefix, --start or --end is too long");
            break;
        }
        cli_request(&args->client, "GET", path, NULL, 0, &reply);
        free(path);
        if (reply.status != 200) {
            r = cli_reply_failed(&args->client, &reply);
            break;
        }
        int count = print_page(args, &reply, &last, &more);
        if (count < 0) {
            r = cli_fail(CLI_FAILED, "%s answered something that is no page of a scan",
                         cli_node_asked(&args->client));
        }
        r = r != CLI_OK ? r : flush_page();
        left -= count > 0 ? (uint64_t)count : left;
    }
    cli_reply_deinit(&reply);
    cli_buf_free(&last);
    free(query);
    return r;
}

static struct hadb_slice slice_of(const char *text)
{
    return (struct hadb_slice){text, text ? strlen(text) : 0};
}

/* Opening makes what is not there; a scan must not. */
static int check_dir(const char *path)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return cli_fail_file(path, errno);
    }
    bool found = false;
    for (struct dirent *entry; !found && (entry = readdir(dir)) != NULL;) {
        found = strncmp(entry->d_name, "seg-", 4) == 0;
    }
    closedir(dir);
    return found
               ? 0
               : cli_fail(CLI_ABSENT,
                          "%s: no database in this folder; name one that hadb restore made", path);
}

static int scan_dir(struct scan_args *args)
{
    struct hadb_error err = {0};
    struct hadb_db *db = NULL;
    int r = check_dir(args->dir);
    if (r != 0) {
        return r;
    }
    r = hadb_kv_open_local(args->dir, "kv", NULL, &db, &err);
    if (r != 0) {
        return cli_fail_error(&err);
    }
    struct hadb_range range = {.start = slice_of(args->start),
                               .end = slice_of(args->end),
                               .prefix = slice_of(args->prefix),
                               .reverse = args->reverse,
                               .keys_only = args->keys_only};
    struct hadb_buf cursor = {0};
    uint64_t left = args->limit ? args->limit : UINT64_MAX;
    bool more = true;
    int written = CLI_OK;
    while (r == 0 && written == CLI_OK && more && left > 0) {
        struct hadb_kv_items items = {0};
        r = hadb_kv_scan(db, &range, left < PAGE_LEN ? (size_t)left : PAGE_LEN, NULL, &items, NULL,
                         &err);
        for (size_t i = 0; r == 0 && i < items.len; i++) {
            char version[HADB_VERSION_TEXT_BYTES];
            hadb_version_format(&items.items[i].version, version);
            print_item(args, items.items[i].key, items.items[i].value, version);
        }
        more = r == 0 && items.more && items.len > 0;
        left -= items.len;
        if (more) {
            struct hadb_slice key = items.items[items.len - 1].key;
            cursor.len = 0;
            cli_append(&cursor, key.data, key.len);
            if (!args->reverse) {
                cli_append(&cursor, "", 1); /* right behind it */
                range.start = (struct hadb_slice){cursor.data, cursor.len};
            } else {
                range.end = (struct hadb_slice){cursor.data, cursor.len};
            }
        }
        hadb_kv_items_deinit(&items);
        written = r == 0 ? flush_page() : CLI_OK;
    }
    cli_buf_free(&cursor);
    hadb_db_close(db, 0);
    return r == 0 ? written : cli_fail_error(&err);
}

static int run_scan(int argc, char **argv)
{
    struct scan_args args = {0};
    int r = parse(argc, argv, &args);
    if (r == 0) {
        cli_progress_start(&args.progress, "scan", args.limit);
        args.progress.on = args.progress.on && isatty(STDOUT_FILENO) != 1;
        r = args.dir ? scan_dir(&args) : scan_node(&args);
        cli_progress_end(&args.progress);
    }
    cli_client_close(&args.client);
    return r;
}

const struct cli_command cli_scan = {
    .name = "scan",
    .usage = "[options]",
    .summary = "print keys and values in key order",
    .help = "Prints KEY<tab>VALUE lines, or with --json one object per line, which `hadb load` "
            "reads back.\n"
            "Each page of 1000 items is of one moment; a long scan is not.\n\n"
            "  --db NAME           database (or HADB_DB)\n"
            "  --prefix P          only keys that start with P\n"
            "  --start K, --end K  from K (inclusive), up to K (exclusive)\n"
            "  --limit N           at most N items\n"
            "  --reverse           from the last key down\n"
            "  --keys              keys only\n"
            "  --dir FOLDER        scan a restored folder instead of asking a node\n" CLI_READ_HELP
                CLI_CLIENT_HELP,
    .run = run_scan,
};
