/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 4 and 7 of 8: zstd, through our allocator, with a cap on everything a foreign frame can ask for.
 *
 * Thread: any; a hadb__inflate belongs to one thread at a time.
 * Invariants: output never grows over the declared raw size; one payload is exactly one frame, which states
 *   that size; no memory is taken before size, magic and ratio have been checked.
 * Happy path: hadb__inflate_new(), hadb__inflate_feed() for each piece, hadb__inflate_free().
 * Failure modes: foreign bytes (HADB_ECORRUPT), memory.
 *
 * The *_advanced constructors are the only way to give zstd an allocator. They are exported by every
 * libzstd since 1.3, although the header calls them "static linking only".
 */
#define ZSTD_STATIC_LINKING_ONLY
#include <inttypes.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/alloc.h"
#include "base/error.h"
#include "changeset/changeset_private.h"

/* Frames of our encoder need 8 MiB at level 19; twice that is the most that is given to a foreign one. */
#define WINDOW_LOG_MAX 24
/* A block makes at most 128 KiB out of at least 4 bytes. */
#define BLOCK_RAW_BYTES_MAX (128u << 10)
#define BLOCK_STORED_BYTES_MIN 4u

struct hadb__inflate {
    ZSTD_DCtx *zstd;
    uint64_t raw_bytes;
    bool ended; /* the frame is over */
};

static void *zstd_alloc(void *arg, size_t size)
{
    (void)arg;
    return hadb_malloc(size);
}

static void zstd_free(void *arg, void *ptr)
{
    (void)arg;
    hadb_free(ptr);
}

static const ZSTD_customMem memory = {.customAlloc = zstd_alloc, .customFree = zstd_free};

int hadb__compress(struct hadb_slice in, int level, uint8_t *out, size_t cap, size_t *out_len,
                   struct hadb_error *err)
{
    HADB_ASSERT(level >= 1 && level <= HADB_ZSTD_LEVEL_MAX);
    ZSTD_CCtx *zstd = ZSTD_createCCtx_advanced(memory);
    if (zstd == NULL) {
        return hadb_fail_nomem(err);
    }
    size_t r = ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level);
    HADB_ASSERT(!ZSTD_isError(r));
    r = ZSTD_compress2(zstd, out, cap, in.data, in.len);
    ZSTD_freeCCtx(zstd);
    if (!ZSTD_isError(r)) {
        *out_len = r;
        return 0;
    }
    if (ZSTD_getErrorCode(r) == ZSTD_error_dstSize_tooSmall) {
        return HADB_ABSENT;
    }
    /* Nothing else can go wrong with valid arguments. */
    HADB_ASSERT(ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation);
    return hadb_fail_nomem(err);
}

static int check_claims(struct hadb_slice first, uint64_t stored_bytes, uint64_t raw_bytes,
                        struct hadb_error *err)
{
    if (first.len < 4 || hadb_get_u32(first.data) != ZSTD_MAGICNUMBER) {
        return hadb_fail(err, HADB_ECORRUPT, "payload is no zstd frame");
    }
    if (ZSTD_getFrameContentSize(first.data, first.len) != raw_bytes) {
        return hadb_fail(err, HADB_ECORRUPT, "zstd frame does not hold %" PRIu64 " bytes",
                         raw_bytes);
    }
    uint64_t blocks_max = stored_bytes / BLOCK_STORED_BYTES_MIN + 1;
    if (raw_bytes / BLOCK_RAW_BYTES_MAX > blocks_max) {
        return hadb_fail(err, HADB_ECORRUPT, "%" PRIu64 " compressed bytes cannot hold %" PRIu64,
                         stored_bytes, raw_bytes);
    }
    return 0;
}

int hadb__inflate_new(struct hadb_slice first, uint64_t stored_bytes, uint64_t raw_bytes,
                      struct hadb_buf *out, struct hadb__inflate **inflate, struct hadb_error *err)
{
    HADB_ASSERT(raw_bytes <= HADB_ENTRY_RAW_BYTES_MAX);
    int r = check_claims(first, stored_bytes, raw_bytes, err);
    if (r != 0) {
        return r;
    }
    struct hadb__inflate *self = hadb_calloc(1, sizeof(*self));
    if (self == NULL) {
        return hadb_fail_nomem(err);
    }
    self->raw_bytes = raw_bytes;
    self->zstd = ZSTD_createDCtx_advanced(memory);
    if (self->zstd == NULL || hadb_buf_reserve(out, (size_t)raw_bytes) != 0) {
        hadb__inflate_free(self);
        return hadb_fail_nomem(err);
    }
    size_t set = ZSTD_DCtx_setParameter(self->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    HADB_ASSERT(!ZSTD_isError(set));
    *inflate = self;
    return 0;
}

static int inflate_fail(size_t code, struct hadb_error *err)
{
    if (ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation) {
        return hadb_fail_nomem(err);
    }
    return hadb_fail(err, HADB_ECORRUPT, "zstd frame is broken: %s", ZSTD_getErrorName(code));
}

int hadb__inflate_feed(struct hadb__inflate *inflate, struct hadb_slice piece, bool last,
                       struct hadb_buf *out, struct hadb_error *err)
{
    HADB_ASSERT(out->len <= inflate->raw_bytes && out->cap >= inflate->raw_bytes);
    ZSTD_inBuffer in = {.src = piece.data, .size = piece.len};
    ZSTD_outBuffer to = {.dst = out->data, .size = (size_t)inflate->raw_bytes, .pos = out->len};
    /* Each round takes input or gives output, so the loop is bounded by both. */
    while (!inflate->ended) {
        size_t in_before = in.pos;
        size_t to_before = to.pos;
        size_t r = ZSTD_decompressStream(inflate->zstd, &to, &in);
        if (ZSTD_isError(r)) {
            return inflate_fail(r, err);
        }
        inflate->ended = r == 0;
        if (in.pos == in_before && to.pos == to_before) {
            break;
        }
    }
    out->len = to.pos;
    if (in.pos != in.size) {
        return hadb_fail(err, HADB_ECORRUPT, "%zu bytes after the zstd frame", in.size - in.pos);
    }
    if (last && (!inflate->ended || out->len != inflate->raw_bytes)) {
        return hadb_fail(err, HADB_ECORRUPT, "zstd frame is cut off after %zu bytes", out->len);
    }
    return 0;
}

void hadb__inflate_free(struct hadb__inflate *inflate)
{
    if (inflate != NULL) {
        ZSTD_freeDCtx(inflate->zstd);
        hadb_free(inflate);
    }
}
