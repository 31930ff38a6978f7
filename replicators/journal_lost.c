/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside hop 8 of 8: a tail that lost its place in the history. It is written to lost/, where people and
 * tools can read and replay it, and then undone.
 *
 *   <dir>/lost/<term>-<slot>[.<n>]/tail-000000.hadbj   DATA entries, chained from the mark
 *                                  tail-000003-blob-0  body of an entry that is larger than 4 MiB
 *                                  report.json         last; ends with "complete": true
 *
 * Thread: the one writer of the engine.
 * Invariants: every file is created new (never opened over another), synced, and its folder is synced,
 *   before the engine rewinds. Memory: one file's worth, or one transaction.
 * Happy path: claim a folder by creating its first file, write the tail file by file, then read it again
 *   for the report, sync, rewind.
 * Failure modes: no space or no memory: the folder goes again, and a later attempt makes a new one. Any other I/O
 *   error leaves the tail in the engine and an incomplete folder behind.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/env.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/id.h"
#include "base/url.h"
#include "changeset/changeset.h"
#include "replicators/journal.h"
#include "replicators/space.h"

#define REPORT_FLUSH_BYTES (64u << 10)

struct lost {
    const struct hadb__journal *journal;
    const struct hadb_tail_save *save;
    struct hadb_engine_position position;
    char folder[HADB_LOST_PATH_BYTES_MAX];
    bool claimed; /* its first file was created by us */
    uint32_t files;
    uint64_t transactions;
    struct hadb_hash prev;
    struct hadb_buf chunk; /* transactions of the file being written */
    /* report */
    struct hadb_fs_file *report;
    uint64_t report_bytes; /* written so far */
    struct hadb_buf text;  /* not yet written */
};
static_assert(HADB_LOST_PATH_BYTES_MAX == HADB_PATH_BYTES_MAX, "one limit for paths");

static const struct hadb_fs *lost_fs(const struct lost *lost)
{
    return &lost->journal->env->fs;
}

/* Creates a file that must not exist, with @data in it, synced. HADB_EXISTS. */
static int create_file(struct lost *lost, const char *name, struct hadb_slice data,
                       struct hadb_error *err)
{
    char path[HADB_PATH_BYTES_MAX];
    int r = hadb_path_join(path, lost->folder, name, err);
    if (r != 0) {
        return r;
    }
    struct hadb_fs_file *file = NULL;
    r = hadb_fs_open(lost_fs(lost), path, HADB_FS_WRITE | HADB_FS_CREATE | HADB_FS_EXCL, &file,
                     err);
    if (r != 0) {
        return r;
    }
    lost->claimed = true;
    r = hadb_fs_write_at(lost_fs(lost), file, 0, data.data, data.len, err);
    r = r != 0 ? r : hadb_fs_sync(lost_fs(lost), file, err);
    hadb_fs_close(lost_fs(lost), file);
    return hadb_wrap(err, r, "%s", path);
}

static int taken(const struct lost *lost, const char *name, struct hadb_error *err)
{
    return hadb_fail(err, HADB_EIO, "%s/%s: somebody else writes into this folder", lost->folder,
                     name);
}

/* Makes a folder of our own: the one in which the first file could be created. */
static int claim_folder(struct lost *lost, const char *name, struct hadb_slice data,
                        struct hadb_error *err)
{
    const struct hadb_pos *mark = &lost->position.mark;
    for (unsigned n = 0; n < HADB_LOST_FOLDERS_MAX; n++) {
        char suffix[16] = "";
        if (n != 0) {
            snprintf(suffix, sizeof(suffix), ".%u", n);
        }
        int len =
            snprintf(lost->folder, sizeof(lost->folder), "%s/lost/%016" PRIx64 "-%016" PRIx64 "%s",
                     lost->save->dir, mark->term, mark->slot, suffix);
        if (len < 0 || (size_t)len >= sizeof(lost->folder)) {
            return hadb_fail(err, HADB_ETOOBIG, "folder name %.64s… is too long", lost->save->dir);
        }
        int r = hadb_fs_mkdir_all(lost_fs(lost), lost->folder, err);
        r = r != 0 ? r : create_file(lost, name, data, err);
        if (r != HADB_EXISTS) {
            return r;
        }
    }
    return hadb_fail(err, HADB_ETOOBIG,
                     "%s/lost has %u folders of term %" PRIu64 " slot %" PRIu64
                     ": move old ones away",
                     lost->save->dir, HADB_LOST_FOLDERS_MAX, mark->term, mark->slot);
}

static int write_blobs(struct lost *lost, const struct hadb_framed *framed, struct hadb_error *err)
{
    for (size_t i = 0; i < framed->blobs_len; i++) {
        char name[48];
        snprintf(name, sizeof(name), "tail-%06" PRIu32 "-blob-%zu", lost->files, i);
        int r = create_file(lost, name, framed->blobs[i], err);
        if (r != 0) {
            return r == HADB_EXISTS ? taken(lost, name, err) : r;
        }
    }
    return 0;
}

/* Writes what lost->chunk holds as one entry. */
static int write_entry(struct lost *lost, const struct hadb__txn_span *span, struct hadb_error *err)
{
    struct hadb_entry entry = {
        .kind = HADB_ENTRY_DATA,
        .db = lost->journal->db,
        .term = lost->position.mark.term,
        .slot = lost->position.mark.slot + 1 + lost->files,
        .first_txid = span->first_txid,
        .last_txid = span->last_txid,
        .prev = lost->prev,
        .incarnation = lost->journal->incarnation,
        .time_unix_ms = span->time_unix_ms,
    };
    hadb_id_random(lost->journal->env, &entry.put_id);
    HADB_CLEANUP(hadb_framed_deinit) struct hadb_framed framed = {0};
    int r = hadb_entry_frame(&entry, hadb_buf_slice(&lost->chunk), HADB_ZSTD_LEVEL_DEFAULT, &framed,
                             err);
    if (r != 0) {
        return r;
    }
    char name[32];
    snprintf(name, sizeof(name), "tail-%06" PRIu32 ".hadbj", lost->files);
    if (lost->files == 0) {
        r = claim_folder(lost, name, hadb_buf_slice(&framed.entry), err);
    } else {
        r = create_file(lost, name, hadb_buf_slice(&framed.entry), err);
        r = r == HADB_EXISTS ? taken(lost, name, err) : r;
    }
    r = r != 0 ? r : write_blobs(lost, &framed, err);
    if (r == 0) {
        lost->prev = framed.hash;
        lost->transactions += span->transactions;
        lost->files++;
    }
    return r;
}

/* Calls @each for the tail, chunk by chunk, in lost->chunk. */
static int each_chunk(struct lost *lost,
                      int (*each)(struct lost *lost, const struct hadb__txn_span *span,
                                  struct hadb_error *err),
                      struct hadb_error *err)
{
    hadb_txid after = lost->position.mark.txid;
    while (after < lost->position.last_txid) {
        hadb_buf_clear(&lost->chunk);
        int r = hadb_engine_tail(lost->journal->engine, after, HADB_LOST_FILE_BYTES_MAX,
                                 &lost->chunk, err);
        struct hadb__txn_span span = {0};
        r = r != 0 ? r : hadb__txn_span(hadb_buf_slice(&lost->chunk), &span, err);
        if (r == HADB_END || (r == 0 && span.first_txid != after + 1)) {
            return hadb_fail(err, HADB_ECORRUPT, "the tail misses transaction %" PRIu64, after + 1);
        }
        r = r != 0 ? r : each(lost, &span, err);
        if (r != 0) {
            return r;
        }
        after = span.last_txid;
    }
    return 0;
}

/* ---- report.json ---- */

static int report_flush(struct lost *lost, size_t keep_max, struct hadb_error *err)
{
    if (lost->text.len <= keep_max) {
        return 0;
    }
    int r = hadb_fs_write_at(lost_fs(lost), lost->report, lost->report_bytes, lost->text.data,
                             lost->text.len, err);
    if (r == 0) {
        lost->report_bytes += lost->text.len;
        hadb_buf_clear(&lost->text);
    }
    return r;
}

/* A JSON string; bytes that could be no text become '?'. */
static int report_string(struct lost *lost, const char *text)
{
    int r = hadb_buf_append_str(&lost->text, "\"");
    for (const char *c = text; *c && r == 0; c++) {
        if (*c == '"' || *c == '\\') {
            r = hadb_buf_printf(&lost->text, "\\%c", *c);
        } else {
            char plain = *c >= 0x20 && *c < 0x7f ? *c : '?';
            r = hadb_buf_append(&lost->text, &plain, 1);
        }
    }
    return r != 0 ? r : hadb_buf_append_str(&lost->text, "\"");
}

static int report_head(struct lost *lost)
{
    const struct hadb_pos *mark = &lost->position.mark;
    char db[HADB_ID_TEXT_BYTES];
    hadb_id_format(&lost->journal->db, db);
    char hash[2 * sizeof(mark->hash.b) + 1];
    hadb_hex_encode(mark->hash.b, sizeof(mark->hash.b), hash);
    int r = hadb_buf_printf(&lost->text, "{\"format\": 1, \"database\": ");
    r = r != 0 ? r : report_string(lost, lost->journal->database ? lost->journal->database : "");
    r = r != 0 ? r : hadb_buf_printf(&lost->text, ", \"uuid\": \"%s\", \"reason\": ", db);
    r = r != 0 ? r : report_string(lost, lost->save->reason);
    r = r != 0 ? r
               : hadb_buf_printf(&lost->text,
                                 ",\n \"mark\": {\"term\": %" PRIu64 ", \"slot\": %" PRIu64
                                 ", \"txid\": %" PRIu64 ", \"chain_hash\": \"%s\"},\n",
                                 mark->term, mark->slot, mark->txid, hash);
    return r != 0 ? r
                  : hadb_buf_printf(&lost->text,
                                    " \"saved_unix_ms\": %" PRId64 ", \"first_txid\": %" PRIu64
                                    ", \"last_txid\": %" PRIu64 ", \"files\": %" PRIu32
                                    ",\n \"transactions\": [",
                                    hadb_now_unix_ms(lost->journal->env), mark->txid + 1,
                                    lost->position.last_txid, lost->files);
}

/* Keys as in URLs; result records and the horizon are not user data. */
static int report_op(struct lost *lost, const struct hadb_op *op, bool first)
{
    struct hadb_slice key =
        hadb_slice((const uint8_t *)op->key.data + 1, op->key.len - 1); /* without the space */
    int r = hadb_buf_printf(&lost->text, "%s\n   {\"op\": \"%s\", \"key\": \"", first ? "" : ",",
                            op->type == HADB_OP_PUT ? "put" : "delete");
    r = r != 0 ? r : hadb_percent_encode(key, &lost->text);
    return r != 0 ? r : hadb_buf_printf(&lost->text, "\", \"value_bytes\": %zu}", op->value.len);
}

static int report_ops(struct lost *lost, const struct hadb_txn *txn, struct hadb_error *err)
{
    size_t cursor = 0;
    struct hadb_op op;
    bool first = true;
    while (hadb_txn_op(txn, &cursor, &op) == 0) {
        if (*(const uint8_t *)op.key.data != HADB_SPACE_USER) {
            continue;
        }
        if (report_op(lost, &op, first) != 0) {
            return hadb_fail_nomem(err);
        }
        first = false;
        int r = report_flush(lost, REPORT_FLUSH_BYTES, err);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* The request id is the one result that the transaction stores. */
static bool find_request_id(const struct hadb_txn *txn, struct hadb_id *out)
{
    size_t cursor = 0;
    struct hadb_op op;
    while (hadb_txn_op(txn, &cursor, &op) == 0) {
        if (op.type == HADB_OP_PUT && hadb__result_key_id(op.key, out)) {
            return true;
        }
    }
    return false;
}

static int report_txn(struct lost *lost, const struct hadb_txn *txn, struct hadb_error *err)
{
    char text[HADB_ID_TEXT_BYTES] = "";
    struct hadb_id id;
    if (find_request_id(txn, &id)) {
        hadb_id_format(&id, text);
    }
    int r = hadb_buf_printf(&lost->text,
                            "%s\n  {\"txid\": %" PRIu64 ", \"term\": %" PRIu64
                            ", \"time_unix_ms\": %" PRId64
                            ", \"request_id\": \"%s\", \"operations\": [",
                            txn->txid == lost->position.mark.txid + 1 ? "" : ",", txn->txid,
                            txn->term, txn->time_unix_ms, text);
    if (r != 0) {
        return hadb_fail_nomem(err);
    }
    r = report_ops(lost, txn, err);
    if (r == 0 && hadb_buf_append_str(&lost->text, "]}") != 0) {
        r = hadb_fail_nomem(err);
    }
    return r;
}

static int report_chunk(struct lost *lost, const struct hadb__txn_span *span,
                        struct hadb_error *err)
{
    (void)span;
    struct hadb_slice rest = hadb_buf_slice(&lost->chunk);
    struct hadb_txn txn;
    int r;
    while ((r = hadb_txn_next(&rest, &txn, err)) == 0) {
        r = report_txn(lost, &txn, err);
        if (r != 0) {
            return r;
        }
    }
    return r == HADB_END ? 0 : r;
}

static int write_report(struct lost *lost, struct hadb_error *err)
{
    char path[HADB_PATH_BYTES_MAX];
    int r = hadb_path_join(path, lost->folder, "report.json", err);
    if (r != 0) {
        return r;
    }
    r = hadb_fs_open(lost_fs(lost), path, HADB_FS_WRITE | HADB_FS_CREATE | HADB_FS_EXCL,
                     &lost->report, err);
    if (r != 0) {
        return r == HADB_EXISTS ? taken(lost, "report.json", err) : r;
    }
    if (report_head(lost) != 0) {
        return hadb_fail_nomem(err);
    }
    r = each_chunk(lost, report_chunk, err);
    if (r == 0 && hadb_buf_append_str(&lost->text, "],\n \"complete\": true}\n") != 0) {
        r = hadb_fail_nomem(err);
    }
    r = r != 0 ? r : report_flush(lost, 0, err);
    r = r != 0 ? r : hadb_fs_sync(lost_fs(lost), lost->report, err);
    return hadb_wrap(err, r, "%s", path);
}

static int save_tail(struct lost *lost, struct hadb_error *err)
{
    int r = each_chunk(lost, write_entry, err);
    r = r != 0 ? r : write_report(lost, err);
    return r != 0 ? r : hadb_fs_sync_dir(lost_fs(lost), lost->folder, err);
}

static void lost_deinit(struct lost *lost)
{
    hadb_fs_close(lost_fs(lost), lost->report);
    hadb_buf_deinit(&lost->chunk);
    hadb_buf_deinit(&lost->text);
}

int hadb__journal_tail_save(void *self, const struct hadb_tail_save *save,
                            struct hadb_tail_saved *out, struct hadb_error *err)
{
    const struct hadb__journal *journal = self;
    struct lost lost = {.journal = journal, .save = save};
    hadb_engine_position(journal->engine, &lost.position);
    lost.prev = lost.position.mark.hash;
    int r = 0;
    if (lost.position.last_txid > lost.position.mark.txid) {
        r = save_tail(&lost, err);
        lost_deinit(&lost);
        r = r != 0 ? hadb_wrap(err, r, "save the tail") : hadb_engine_rewind(journal->engine, err);
        if (lost.claimed && (r == HADB_ENOSPC || r == HADB_ENOMEM)) {
            hadb_fs_remove_all(lost_fs(&lost), lost.folder,
                               NULL); /* the tail is still in the engine */
        }
    }
    if (r == 0 && lost.transactions != 0) {
        hadb_log(journal->env, HADB_LOG_WARN, "journal", journal->database,
                 "%" PRIu64 " transactions, %" PRIu64 " to %" PRIu64 ", moved to %s: %s",
                 lost.transactions, lost.position.mark.txid + 1, lost.position.last_txid,
                 lost.folder, save->reason);
    }
    if (r == 0 && out) {
        *out = (struct hadb_tail_saved){.transactions = lost.transactions, .files = lost.files};
        if (lost.transactions != 0) {
            out->first_txid = lost.position.mark.txid + 1;
            out->last_txid = lost.position.last_txid;
            memcpy(out->path, lost.folder, sizeof(out->path));
        }
    }
    return r;
}
