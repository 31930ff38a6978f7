/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns what backends that speak HTTP have in common between an operation and its request.
 *
 * Thread: any; functions of their arguments.
 * Invariants: outputs are written on success alone; a range is taken only if the reply says that it is the one.
 * Atomics: the counters of usage (relaxed: they order nothing).
 * Failure modes: HADB_EIO for another range, HADB_ENOMEM.
 */
#include "storage/http_io.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/url.h"

bool hadb__http_range(const struct hadb_storage_io *io, char out[HADB_HTTP_RANGE_BYTES])
{
    if (io->len == 0 || io->offset > (uint64_t)INT64_MAX - io->len) {
        return false;
    }
    snprintf(out, HADB_HTTP_RANGE_BYTES, "bytes=%" PRIu64 "-%" PRIu64, io->offset,
             io->offset + io->len - 1);
    return true;
}

/* "bytes FIRST-LAST/TOTAL" (or /"*"); false when it is anything else. */
static bool read_content_range(const char *text, uint64_t *first, uint64_t *last)
{
    char copy[80];
    size_t len = strnlen(text, sizeof(copy) - 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    char *dash = strchr(copy, '-'), *slash = strchr(copy, '/');
    if (strncmp(copy, "bytes ", 6) != 0 || !dash || !slash || dash > slash) {
        return false;
    }
    *dash = *slash = '\0';
    return hadb_parse_u64(copy + 6, 0, INT64_MAX, first) &&
           hadb_parse_u64(dash + 1, *first, INT64_MAX, last);
}

int hadb__http_range_of(const struct hadb_storage_io *io, const struct hadb__http_reply *reply,
                        struct hadb_slice *out, struct hadb_error *err)
{
    uint64_t first = 0, last = 0;
    size_t all = reply->body.len;
    if (reply->status == 416) {
        *out = (struct hadb_slice){0};
        return 0;
    }
    if (reply->status == 200) { /* the whole object: the server does not know ranges */
        size_t from = io->offset < all ? (size_t)io->offset : all;
        size_t len = HADB_MIN(io->len, all - from);
        *out = (struct hadb_slice){.data = len ? reply->body.data + from : NULL, .len = len};
        return 0;
    }
    if (!read_content_range(reply->content_range, &first, &last) || first != io->offset ||
        last - first + 1 != all || all > io->len) {
        return hadb_fail(err, HADB_EIO, "get_range: the reply is another range than was asked for");
    }
    *out = (struct hadb_slice){.data = reply->body.data, .len = all};
    return 0;
}

static int take_range(const struct hadb_storage_io *io, struct hadb__http_reply *reply,
                      struct hadb_error *err)
{
    struct hadb_slice part = {0};
    char range[HADB_HTTP_RANGE_BYTES];
    if (!hadb__http_range(io, range)) {
        hadb_buf_clear(io->out);
        return 0;
    }
    int r = hadb__http_range_of(io, reply, &part, err);
    if (r) {
        return r;
    }
    if (reply->status == 206) {
        hadb_buf_deinit(io->out);
        *io->out = hadb_buf_take(&reply->body);
        return 0;
    }
    if (hadb_buf_reserve(io->out, part.len)) {
        return hadb_fail_nomem(err);
    }
    hadb_buf_clear(io->out);
    return hadb_buf_append(io->out, part.data, part.len) ? hadb_fail_nomem(err) : 0;
}

int hadb__http_io_take(const struct hadb_storage_io *io, struct hadb__http_reply *reply,
                       struct hadb_error *err)
{
    if (io->type == HADB_IO_GET_RANGE) {
        return take_range(io, reply, err);
    }
    if (io->type == HADB_IO_GET) {
        hadb_buf_deinit(io->out);
        *io->out = hadb_buf_take(&reply->body);
    }
    if (io->type == HADB_IO_HEAD) {
        io->meta->size_bytes = (uint64_t)reply->length;
    }
    struct hadb_tag *tag = io->type == HADB_IO_HEAD ? &io->meta->tag : io->tag;
    if (tag) {
        memcpy(tag->s, reply->etag, sizeof(tag->s));
    }
    return 0;
}

void hadb__http_io_lend(const struct hadb_storage_io *io, struct hadb__http_reply *reply)
{
    if (io->out && io->out->len == 0) {
        reply->body = hadb_buf_take(io->out);
    }
}

void hadb__http_io_return(const struct hadb_storage_io *io, struct hadb__http_reply *reply)
{
    if (io->out && io->out->cap == 0) {
        *io->out = hadb_buf_take(&reply->body);
        hadb_buf_clear(io->out);
    }
}

static void add(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

void hadb__http_count(struct hadb_storage_usage *live, const char *method, bool lists,
                      size_t body_bytes, const struct hadb__http_reply *reply, int64_t now_unix_s)
{
    if (!reply->sent) {
        return;
    }
    bool gets = strcmp(method, "HEAD") == 0 || (strcmp(method, "GET") == 0 && !lists);
    bool deletes = strcmp(method, "DELETE") == 0;
    add(gets ? &live->gets : deletes ? &live->deletes : &live->puts, 1);
    add(&live->sent_bytes, body_bytes);
    add(&live->received_bytes, reply->body.len);
    if (reply->date_unix_s >= 0) {
        __atomic_store_n(&live->clock_offset_s, reply->date_unix_s - now_unix_s, __ATOMIC_RELAXED);
        __atomic_store_n(&live->clock_known, true, __ATOMIC_RELAXED);
    }
}

void hadb__http_usage(const struct hadb_storage_usage *live, struct hadb_storage_usage *out)
{
    *out = (struct hadb_storage_usage){
        .puts = __atomic_load_n(&live->puts, __ATOMIC_RELAXED),
        .gets = __atomic_load_n(&live->gets, __ATOMIC_RELAXED),
        .deletes = __atomic_load_n(&live->deletes, __ATOMIC_RELAXED),
        .sent_bytes = __atomic_load_n(&live->sent_bytes, __ATOMIC_RELAXED),
        .received_bytes = __atomic_load_n(&live->received_bytes, __ATOMIC_RELAXED),
        .clock_known = __atomic_load_n(&live->clock_known, __ATOMIC_RELAXED),
        .clock_offset_s = __atomic_load_n(&live->clock_offset_s, __ATOMIC_RELAXED),
    };
}
