/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns how the local backend reads: opening objects, bytes, content tags, and the question
 * whether what was read is durable (see storage_local.c).
 *
 * Thread: any; no state beyond the call.
 * Invariant: a body or a size is given out only after hadb__local_settle(): no power cut can take it back.
 * Happy path: open, read, look at the link count. Failure modes: HADB_EIO, HADB_EAUTH, HADB_ENOMEM;
 * HADB_ECORRUPT for a foreign file that is no object of ours (too big, a pipe, a device). A folder in an object's place is HADB_ABSENT.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "storage/storage_local_private.h"

#define LOCAL_HASH_STEP_BYTES 65536u

bool hadb__local_missing(int r, const struct hadb_error *cause)
{
    return r < 0 && (cause->sys_errno == ENOENT || cause->sys_errno == ENOTDIR ||
                     cause->sys_errno == ENAMETOOLONG);
}

int hadb__local_give(struct hadb_error *err, const struct hadb_error *cause, int r)
{
    if (err && r < 0) {
        *err = *cause;
    }
    return r;
}

int hadb__local_unknown(struct hadb_error *err, const struct hadb_error *cause, const char *what)
{
    int errno_value = cause->sys_errno;
    int r = hadb_fail(err, HADB_ETIMEDOUT, "%s: %s", what, cause->message);
    if (err) {
        err->sys_errno = errno_value;
    }
    return r;
}

void hadb__local_parent(const char *path, char out[HADB_PATH_BYTES_MAX])
{
    const char *slash = strrchr(path, '/');
    HADB_ASSERT(slash);
    size_t len = HADB_MAX((size_t)(slash - path), (size_t)1);
    memcpy(out, path, len);
    out[len] = '\0';
}

int hadb__local_settle(const struct hadb__local *l, const char *path, struct hadb_error *err)
{
    struct hadb_fs_stat st = {0};
    if (l->held.held && (hadb_fs_stat(l->fs, path, &st, NULL) != 0 || st.links < 2)) {
        return 0;
    }
    char folder[HADB_PATH_BYTES_MAX];
    hadb__local_parent(path, folder);
    return hadb_fs_sync_dir(l->fs, folder, err);
}

int hadb__local_open_object(const struct hadb__local *l, const char *path,
                            struct hadb_fs_file **file, uint64_t *size, bool *is_folder,
                            struct hadb_error *err)
{
    struct hadb_error cause = {0};
    uint8_t byte;
    size_t got = 0;
    if (is_folder) {
        *is_folder = false;
    }
    int r = hadb_fs_open(l->fs, path, HADB_FS_READ, file, &cause);
    if (r == HADB_ABSENT || hadb__local_missing(r, &cause)) {
        return HADB_ABSENT;
    }
    if (r == 0) {
        r = hadb_fs_size(l->fs, *file, size, &cause);
    }
    if (r == 0) { /* a folder opens well, but does not read */
        r = hadb_fs_read_at(l->fs, *file, 0, &byte, 1, &got, &cause);
    }
    if (r) {
        hadb_fs_close(l->fs, *file);
        *file = NULL;
    }
    bool folder = r < 0 && cause.sys_errno == EISDIR;
    if (r < 0 && cause.sys_errno != 0) { /* the caller names the key; here goes the cause alone */
        hadb_fail_errno(&cause, cause.sys_errno, "its file");
    }
    if (folder) {
        if (is_folder) {
            *is_folder = true;
        }
        return HADB_ABSENT;
    }
    if (r == HADB_ECORRUPT) {
        return hadb_fail(err, r, "its file is a pipe, a socket or a device");
    }
    return hadb__local_give(err, &cause, r);
}

int hadb__local_read(const struct hadb__local *l, const char *path, uint64_t offset, size_t len,
                     struct hadb_buf *out, struct hadb_error *err)
{
    struct hadb_fs_file *file = NULL;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    uint64_t size = 0;
    size_t got = 0;
    int r = hadb__local_open_object(l, path, &file, &size, NULL, err);
    if (r) {
        return r;
    }
    uint64_t left = offset < size ? size - offset : 0;
    len = (size_t)HADB_MIN((uint64_t)len, left);
    if (size > HADB_OBJECT_BYTES_MAX) {
        r = hadb_fail(err, HADB_ECORRUPT, "the file has %" PRIu64 " bytes, an object at most %u",
                      size, HADB_OBJECT_BYTES_MAX);
    } else if (hadb_buf_reserve(&bytes, len)) {
        r = hadb_fail_nomem(err);
    }
    if (r == 0 && len > 0) {
        r = hadb_fs_read_at(l->fs, file, offset, bytes.data, len, &got, err);
    }
    if (r == 0 && got != len) {
        r = hadb_fail(err, HADB_EIO, "file became shorter while it was read");
    }
    hadb_fs_close(l->fs, file);
    if (r == 0) {
        r = hadb__local_settle(l, path, err);
    }
    if (r == 0) {
        hadb_buf_deinit(out);
        *out = hadb_buf_take(&bytes);
        out->len = got;
    }
    return r;
}

static void tag_of(const struct hadb_hash *hash, struct hadb_tag *tag)
{
    static_assert(sizeof(tag->s) > 2 * sizeof(hash->b), "a tag holds a hash in hex");
    hadb_hex_encode(hash->b, sizeof(hash->b), tag->s);
}

void hadb__local_tag(struct hadb_slice bytes, struct hadb_tag *tag)
{
    if (tag) {
        struct hadb_hash hash;
        hadb_sha256(bytes.data, bytes.len, &hash);
        tag_of(&hash, tag);
    }
}

/* Hashes the rest of an open file without holding all of it. */
static int hash_file(const struct hadb__local *l, struct hadb_fs_file *file, uint64_t size,
                     struct hadb_hash *out, struct hadb_error *err)
{
    struct hadb_sha256_stream *sha = hadb_sha256_new();
    uint8_t *step = hadb_malloc(LOCAL_HASH_STEP_BYTES);
    int r = sha && step ? 0 : hadb_fail_nomem(err);
    for (uint64_t at = 0; at < size && r == 0;) {
        size_t len = (size_t)HADB_MIN((uint64_t)LOCAL_HASH_STEP_BYTES, size - at);
        size_t got = 0;
        r = hadb_fs_read_at(l->fs, file, at, step, len, &got, err);
        if (r == 0 && got == 0) {
            r = hadb_fail(err, HADB_EIO, "object file became shorter while it was read");
        }
        if (r == 0) {
            hadb_sha256_update(sha, step, got);
            at += got;
        }
    }
    if (r == 0) {
        hadb_sha256_final(sha, out);
    }
    hadb_sha256_free(sha);
    hadb_free(step);
    return r;
}

int hadb__local_stat(const struct hadb__local *l, const char *path, struct hadb_object_meta *out,
                     struct hadb_error *err)
{
    struct hadb_fs_file *file = NULL;
    struct hadb_hash hash = {0};
    uint64_t size = 0;
    int r = hadb__local_open_object(l, path, &file, &size, NULL, err);
    if (r) {
        return r;
    }
    r = hash_file(l, file, size, &hash, err);
    hadb_fs_close(l->fs, file);
    if (r == 0) {
        out->size_bytes = size;
        tag_of(&hash, &out->tag);
    }
    return r;
}
