/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 4 of 8, looked at: any object as text or JSON.
 *
 * Thread: any; pure, but for hadb_inspect_file(), which reads one file.
 * Invariants: an object is verified before a word is said about it; the tree that is built is bounded
 *   (HADB_INSPECT_LINES_MAX) and at most a few levels deep; values of keys are never shown.
 * Happy path: open, build one JSON tree, print it as JSON or as indented text.
 * Failure modes: those of opening; memory. A payload that lies in blobs is described by its parts.
 */
#include <inttypes.h>
#include <jansson.h>
#include <time.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/id.h"
#include "changeset/changeset.h"
#include "hadb/changeset.h"

/* A tree under construction: after the first failure everything else is a no-op. */
struct tree {
    bool failed;
    bool shortened;
    size_t lines_left;
};

static void set(struct tree *tree, json_t *object, const char *name, json_t *take_value)
{
    if (json_object_set_new(object, name, take_value) != 0) {
        tree->failed = true;
    }
}

static void add(struct tree *tree, json_t *array, json_t *take_value)
{
    if (json_array_append_new(array, take_value) != 0) {
        tree->failed = true;
    }
}

static void set_text(struct tree *tree, json_t *object, const char *name, const char *text)
{
    set(tree, object, name, json_string(text));
}

/* Numbers that JSON readers with signed 64 bits would garble become text. */
static void set_u64(struct tree *tree, json_t *object, const char *name, uint64_t value)
{
    char text[24];
    if (value <= INT64_MAX) {
        set(tree, object, name, json_integer((json_int_t)value));
        return;
    }
    snprintf(text, sizeof(text), "%" PRIu64, value);
    set_text(tree, object, name, text);
}

static void set_hash(struct tree *tree, json_t *object, const char *name,
                     const struct hadb_hash *hash)
{
    char hex[2 * sizeof(hash->b) + 1];
    hadb_hex_encode(hash->b, sizeof(hash->b), hex);
    set_text(tree, object, name, hex);
}

static void set_id(struct tree *tree, json_t *object, const char *name, const struct hadb_id *id)
{
    char text[HADB_ID_TEXT_BYTES];
    hadb_id_format(id, text);
    set_text(tree, object, name, text);
}

static void set_time(struct tree *tree, json_t *object, int64_t unix_ms)
{
    struct tm tm;
    char date[64];
    char text[80];
    set(tree, object, "time_unix_ms", json_integer((json_int_t)unix_ms));
    time_t seconds = (time_t)(unix_ms / 1000);
    if (unix_ms <= 0 || gmtime_r(&seconds, &tm) == NULL ||
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        return;
    }
    snprintf(text, sizeof(text), "%s.%03dZ", date, (int)(unix_ms % 1000));
    set_text(tree, object, "time", text);
}

static void set_key(struct tree *tree, json_t *object, struct hadb_slice key)
{
    char text[4 * HADB_INSPECT_KEY_BYTES_MAX + 1];
    const uint8_t *bytes = key.data;
    size_t shown = HADB_MIN(key.len, (size_t)HADB_INSPECT_KEY_BYTES_MAX);
    char *at = text;
    for (size_t i = 0; i < shown; i++) {
        if (bytes[i] >= ' ' && bytes[i] <= '~' && bytes[i] != '\\') {
            *at++ = (char)bytes[i];
        } else {
            at += snprintf(at, 5, "\\x%02x", bytes[i]);
        }
    }
    *at = '\0';
    set_text(tree, object, "key", text);
    if (shown < key.len) {
        set_u64(tree, object, "key_bytes", key.len);
    }
}

/* Takes one line out of the budget; false when it is used up. */
static bool take_line(struct tree *tree)
{
    if (tree->lines_left == 0) {
        tree->shortened = true;
        return false;
    }
    tree->lines_left--;
    return true;
}

/* ---- payloads ---- */

static json_t *describe_txn(struct tree *tree, const struct hadb_txn *txn)
{
    json_t *object = json_object();
    set_u64(tree, object, "txid", txn->txid);
    set_u64(tree, object, "term", txn->term);
    set_time(tree, object, txn->time_unix_ms);
    set_u64(tree, object, "bytes", txn->bytes.len);
    set_u64(tree, object, "ops_len", txn->ops_len);
    json_t *ops = json_array();
    struct hadb_op op;
    size_t cursor = 0;
    while (hadb_txn_op(txn, &cursor, &op) == 0 && take_line(tree)) {
        json_t *line = json_object();
        set_text(tree, line, "op", op.type == HADB_OP_PUT ? "put" : "delete");
        set_key(tree, line, op.key);
        if (op.type == HADB_OP_PUT) {
            set_u64(tree, line, "value_bytes", op.value.len);
        }
        add(tree, ops, line);
    }
    set(tree, object, "ops", ops);
    return object;
}

static int describe_data(struct tree *tree, json_t *object, const struct hadb_entry *entry,
                         struct hadb_slice payload, struct hadb_error *err)
{
    int r = hadb_entry_check_data(entry, payload, err);
    if (r != 0) {
        return r;
    }
    json_t *txns = json_array();
    struct hadb_txn txn;
    uint64_t count = 0;
    while (hadb_txn_next(&payload, &txn, NULL) == 0) {
        count++;
        if (take_line(tree)) {
            add(tree, txns, describe_txn(tree, &txn));
        }
    }
    set_u64(tree, object, "transactions_len", count);
    set(tree, object, "transactions", txns);
    return 0;
}

static int describe_seal(struct tree *tree, json_t *object, struct hadb_slice payload,
                         struct hadb_error *err)
{
    struct hadb_seal seal;
    int r = hadb_seal_decode(payload, &seal, err);
    if (r != 0) {
        return r;
    }
    json_t *line = json_object();
    set_text(tree, line, "reason", hadb_seal_reason_name(seal.reason));
    set_text(tree, line, "node", seal.node);
    set_id(tree, line, "node_id", &seal.node_id);
    set_id(tree, line, "incarnation", &seal.incarnation);
    set_text(tree, line, "address", seal.address);
    set(tree, object, "seal", line);
    return 0;
}

static int describe_items(struct tree *tree, json_t *object, struct hadb_slice payload,
                          struct hadb_error *err)
{
    struct hadb_items items = {.rest = payload};
    struct hadb_item item;
    uint64_t count = 0;
    int r = 0;
    json_t *lines = json_array();
    while ((r = hadb_items_next(&items, &item, err)) == 0) {
        count++;
        if (take_line(tree)) {
            json_t *line = json_object();
            set_key(tree, line, item.key);
            set_u64(tree, line, "value_bytes", item.value.len);
            set_u64(tree, line, "term", item.version.term);
            set_u64(tree, line, "txid", item.version.txid);
            add(tree, lines, line);
        }
    }
    set_u64(tree, object, "items_len", count);
    set(tree, object, "items", lines);
    return r == HADB_END ? 0 : r;
}

static int describe_meta(struct tree *tree, json_t *object, struct hadb_slice payload,
                         struct hadb_error *err)
{
    struct hadb_meta meta;
    int r = hadb_meta_decode(payload, &meta, err);
    if (r != 0) {
        return r;
    }
    json_t *line = json_object();
    set_text(tree, line, "database", meta.database);
    set_text(tree, line, "engine", meta.engine);
    set_text(tree, line, "hash", meta.hash);
    set_u64(tree, line, "format", meta.format);
    set_u64(tree, line, "page_bytes", meta.page_bytes);
    set_id(tree, line, "cluster", &meta.cluster);
    set(tree, line, "created_unix_ms", json_integer((json_int_t)meta.created_unix_ms));
    if (!hadb_id_is_zero(&meta.parent)) {
        set_id(tree, line, "parent", &meta.parent);
        set_u64(tree, line, "parent_slot", meta.parent_slot);
    }
    set(tree, object, "meta", line);
    return 0;
}

static json_t *describe_snapshot_ref(struct tree *tree,
                                     const struct hadb_manifest_snapshot *snapshot)
{
    json_t *line = json_object();
    set_text(tree, line, "name", snapshot->name);
    set_u64(tree, line, "parts", snapshot->parts);
    set_u64(tree, line, "bytes", snapshot->bytes);
    set_time(tree, line, snapshot->time_unix_ms);
    set_u64(tree, line, "term", snapshot->pos.term);
    set_u64(tree, line, "slot", snapshot->pos.slot);
    set_u64(tree, line, "txid", snapshot->pos.txid);
    set_hash(tree, line, "hash", &snapshot->pos.hash);
    set_hash(tree, line, "last_hash", &snapshot->last_hash);
    set_hash(tree, line, "digest", &snapshot->digest);
    return line;
}

static void describe_manifest_lists(struct tree *tree, json_t *line,
                                    const struct hadb_manifest *manifest)
{
    json_t *snapshots = json_array();
    json_t *terms = json_array();
    json_t *condemned = json_array();
    json_t *sections = json_array();
    for (size_t i = 0; i < manifest->snapshots_len; i++) {
        add(tree, snapshots, describe_snapshot_ref(tree, &manifest->snapshots[i]));
    }
    for (size_t i = 0; i < manifest->terms_len; i++) {
        json_t *term = json_object();
        set_u64(tree, term, "term", manifest->terms[i].term);
        set_u64(tree, term, "last_slot", manifest->terms[i].last_slot);
        set_u64(tree, term, "last_txid", manifest->terms[i].last_txid);
        set_hash(tree, term, "seal_hash", &manifest->terms[i].seal_hash);
        add(tree, terms, term);
    }
    for (size_t i = 0; i < manifest->condemned_len; i++) {
        add(tree, condemned, json_string(manifest->condemned[i]));
    }
    for (size_t i = 0; i < manifest->sections_len; i++) {
        json_t *section = json_object();
        set_u64(tree, section, "tag", manifest->sections[i].tag);
        set_u64(tree, section, "bytes", manifest->sections[i].bytes.len);
        add(tree, sections, section);
    }
    set(tree, line, "snapshots", snapshots);
    set(tree, line, "terms", terms);
    set(tree, line, "condemned", condemned);
    set(tree, line, "unknown_sections", sections);
}

static int describe_manifest(struct tree *tree, json_t *object, struct hadb_slice payload,
                             struct hadb_error *err)
{
    struct hadb_manifest manifest = {0};
    int r = hadb_manifest_decode(payload, &manifest, err);
    if (r != 0) {
        return r;
    }
    json_t *line = json_object();
    set_u64(tree, line, "version", manifest.version);
    set_id(tree, line, "nonce", &manifest.nonce);
    set_u64(tree, line, "boundary_slot", manifest.boundary_slot);
    set_u64(tree, line, "boundary_term", manifest.boundary_term);
    set_u64(tree, line, "swept_slot", manifest.swept_slot);
    set_u64(tree, line, "swept_term", manifest.swept_term);
    set_u64(tree, line, "terms_floor", manifest.terms_floor);
    describe_manifest_lists(tree, line, &manifest);
    set(tree, object, "manifest", line);
    hadb_manifest_deinit(&manifest);
    return 0;
}

static int describe_name(struct tree *tree, json_t *object, struct hadb_slice payload,
                         struct hadb_error *err)
{
    struct hadb_name name;
    int r = hadb_name_decode(payload, &name, err);
    if (r == 0) {
        set_id(tree, object, "points_to", &name.db);
    }
    return r;
}

static int describe_payload(struct tree *tree, json_t *object, const struct hadb_opened *opened,
                            struct hadb_error *err)
{
    struct hadb_slice payload = hadb_buf_slice(&opened->payload);
    switch (opened->entry.kind) {
    case HADB_ENTRY_DATA:
        return describe_data(tree, object, &opened->entry, payload, err);
    case HADB_ENTRY_SEAL:
        return describe_seal(tree, object, payload, err);
    case HADB_ENTRY_SNAPSHOT:
        return describe_items(tree, object, payload, err);
    case HADB_ENTRY_META:
        return describe_meta(tree, object, payload, err);
    case HADB_ENTRY_MANIFEST:
        return describe_manifest(tree, object, payload, err);
    case HADB_ENTRY_NAME:
        return describe_name(tree, object, payload, err);
    default:
        break;
    }
    HADB_ASSERT(!"hadb_entry_open() lets no other kind through");
    return HADB_ECORRUPT;
}

/* ---- header ---- */

static void describe_header(struct tree *tree, json_t *object, const struct hadb_opened *opened)
{
    const struct hadb_entry *entry = &opened->entry;
    bool snapshot = entry->kind == HADB_ENTRY_SNAPSHOT;
    set_text(tree, object, "kind", hadb_entry_kind_name(entry->kind));
    set_u64(tree, object, "format_version", HADB_ENTRY_VERSION);
    set_hash(tree, object, "hash", &opened->hash);
    set_hash(tree, object, "prev", &entry->prev);
    set_hash(tree, object, "body_hash", &entry->body_hash);
    set_id(tree, object, "db", &entry->db);
    set_u64(tree, object, "term", entry->term);
    set_u64(tree, object, "slot", entry->slot);
    set_u64(tree, object, snapshot ? "part" : "first_txid", entry->first_txid);
    set_u64(tree, object, snapshot ? "txid" : "last_txid", entry->last_txid);
    if (snapshot) {
        set(tree, object, "last_part", json_boolean((entry->flags & HADB_ENTRY_FLAG_LAST) != 0));
    }
    set_id(tree, object, "incarnation", &entry->incarnation);
    set_id(tree, object, "put_id", &entry->put_id);
    set_u64(tree, object, "pages_after", entry->pages_after);
    set_u64(tree, object, "checksum_after", entry->checksum_after);
    if (entry->kind == HADB_ENTRY_DATA) {
        set_u64(tree, object, "durable_slot", entry->durable_slot);
    }
    set_time(tree, object, entry->time_unix_ms);
    set_text(tree, object, "codec", entry->codec == HADB_CODEC_ZSTD ? "zstd" : "none");
    set_u64(tree, object, "stored_bytes", entry->stored_bytes);
    set_u64(tree, object, "raw_bytes", entry->raw_bytes);
}

static void describe_blobs(struct tree *tree, json_t *object, const struct hadb_opened *opened)
{
    json_t *blobs = json_array();
    for (size_t i = 0; i < opened->parts_len; i++) {
        json_t *line = json_object();
        set_u64(tree, line, "bytes", opened->parts[i].bytes);
        set_hash(tree, line, "sha256", &opened->parts[i].hash);
        add(tree, blobs, line);
    }
    set(tree, object, "blobs", blobs);
}

/* ---- printing ---- */

/* Small flat objects in a list are one line. */
#define ONE_LINE_MEMBERS_MAX 4u

static bool is_nested(const json_t *value)
{
    return json_is_object(value) || json_is_array(value);
}

static bool fits_one_line(json_t *value)
{
    const char *name;
    json_t *member;
    if (!json_is_object(value) || json_object_size(value) > ONE_LINE_MEMBERS_MAX) {
        return false;
    }
    json_object_foreach(value, name, member)
    {
        if (is_nested(member)) {
            return false;
        }
    }
    return true;
}

static int print_scalar(const json_t *value, struct hadb_buf *out)
{
    if (json_is_string(value)) {
        return hadb_buf_append_str(out, json_string_value(value));
    }
    if (json_is_integer(value)) {
        return hadb_buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    }
    return hadb_buf_append_str(out, json_is_true(value) ? "yes" : "no");
}

static int print_one_line(json_t *object, struct hadb_buf *out)
{
    const char *name;
    json_t *member;
    const char *gap = "";
    json_object_foreach(object, name, member)
    {
        int r = hadb_buf_printf(out, "%s%s: ", gap, name);
        r = r != 0 ? r : print_scalar(member, out);
        if (r != 0) {
            return r;
        }
        gap = "  ";
    }
    return hadb_buf_append_str(out, "\n");
}

/* One item of a list, to the end of its line. */
static int print_item(json_t *item, struct hadb_buf *out)
{
    if (json_is_object(item)) {
        return print_one_line(item, out);
    }
    int r = print_scalar(item, out);
    return r != 0 ? r : hadb_buf_append_str(out, "\n");
}

static int print_members(json_t *object, unsigned indent, struct hadb_buf *out);

static int print_array(json_t *array, unsigned indent, struct hadb_buf *out)
{
    json_t *member;
    size_t index;
    json_array_foreach(array, index, member)
    {
        int r = 0;
        if (is_nested(member) && !fits_one_line(member)) {
            r = hadb_buf_printf(out, "%*s-\n", (int)indent, "");
            r = r != 0 ? r : print_members(member, indent + 2, out);
        } else {
            r = hadb_buf_printf(out, "%*s- ", (int)indent, "");
            if (r == 0) {
                r = print_item(member, out);
            }
        }
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* The depth is that of our own tree, never of foreign input. */
static int print_members(json_t *object, unsigned indent, struct hadb_buf *out)
{
    const char *name;
    json_t *member;
    json_object_foreach(object, name, member)
    {
        int r =
            hadb_buf_printf(out, "%*s%s:%s", (int)indent, "", name, is_nested(member) ? "\n" : " ");
        if (r != 0) {
            return r;
        }
        if (json_is_object(member)) {
            r = print_members(member, indent + 2, out);
        } else if (json_is_array(member)) {
            r = print_array(member, indent + 2, out);
        } else {
            r = print_scalar(member, out);
            r = r != 0 ? r : hadb_buf_append_str(out, "\n");
        }
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* jansson forgets about some of the failures of its callback, so they are kept here. */
struct chunks {
    struct hadb_buf *out;
    bool failed;
};

static int print_chunk(const char *text, size_t len, void *arg)
{
    struct chunks *chunks = arg;
    chunks->failed = chunks->failed || hadb_buf_append(chunks->out, text, len) != 0;
    return chunks->failed ? -1 : 0;
}

static int print_json(const json_t *tree, struct hadb_buf *out)
{
    struct chunks chunks = {.out = out};
    if (json_dump_callback(tree, print_chunk, &chunks, JSON_COMPACT) != 0 || chunks.failed) {
        return HADB_ENOMEM;
    }
    return hadb_buf_append_str(out, "\n");
}

int hadb_inspect(struct hadb_slice stored, bool json, struct hadb_buf *out, struct hadb_error *err)
{
    if (!out || (!stored.data && stored.len > 0)) {
        return hadb_fail_misuse(err, __func__);
    }
    struct hadb_opened opened = {0};
    struct tree tree = {.lines_left = HADB_INSPECT_LINES_MAX};
    size_t before = out->len;
    int r = hadb_entry_open(stored, &opened, err);
    if (r < 0) {
        return r;
    }
    json_t *object = json_object();
    describe_header(&tree, object, &opened);
    if (r == HADB_ABSENT) {
        describe_blobs(&tree, object, &opened);
        r = 0;
    } else {
        r = describe_payload(&tree, object, &opened, err);
    }
    hadb_opened_deinit(&opened);
    if (r == 0 && tree.shortened) {
        set(&tree, object, "shortened", json_true());
    }
    if (r == 0) {
        r = tree.failed ? HADB_ENOMEM
            : json      ? print_json(object, out)
                        : print_members(object, 0, out);
        r = r == 0 ? 0 : hadb_fail_nomem(err);
    }
    json_decref(object);
    if (r != 0) {
        out->len = before;
    }
    return r;
}

int hadb_inspect_file(const char *path, bool json, struct hadb_buf *out, struct hadb_error *err)
{
    if (!path || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf stored = {0};
    struct hadb_fs fs = hadb_fs_host();
    int r = hadb_fs_read_file(&fs, path, HADB_OBJECT_BYTES_MAX, &stored, err);
    if (r != 0) {
        return r;
    }
    r = hadb_inspect(hadb_buf_slice(&stored), json, out, err);
    return r == 0 ? 0 : hadb_wrap(err, r, "%s", path);
}
