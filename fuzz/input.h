/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets share: taking an input apart, and the entry point's prototype. Each target is one file
 * with LLVMFuzzerTestOneInput(); a broken promise is HADB_ASSERT, so it aborts with or without libFuzzer. */
#ifndef HADB_FUZZ_INPUT_H
#define HADB_FUZZ_INPUT_H

#include <stdlib.h>

#include "base/buf.h"
#include "base/hash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct fuzz_input {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->at++;
}

static inline uint64_t fuzz_u64(struct fuzz_input *in)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value = value << 8 | fuzz_u8(in);
    }
    return value;
}

/* Up to @max bytes, as many as the next byte says; points into the input. */
static inline struct hadb_slice fuzz_slice(struct fuzz_input *in, size_t max)
{
    size_t len = fuzz_u8(in);
    len = HADB_MIN(len, max);
    len = HADB_MIN(len, in->left);
    struct hadb_slice slice = hadb_slice(in->at, len);
    in->at += len;
    in->left -= len;
    return slice;
}

static inline void fuzz_fill(struct fuzz_input *in, void *out, size_t len)
{
    uint8_t *at = out;
    for (size_t i = 0; i < len; i++) {
        at[i] = fuzz_u8(in);
    }
}

/* Up to @max characters of [a-z0-9.-], as many as the next byte says, and NUL. */
static inline void fuzz_name(struct fuzz_input *in, char *out, size_t max)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
    size_t len = fuzz_u8(in);
    len = HADB_MIN(len, max);
    for (size_t i = 0; i < len; i++) {
        out[i] = letters[fuzz_u8(in) % (sizeof(letters) - 1)];
    }
    out[len] = '\0';
}

/* The bytes as they are, and with their last four made the checksum of the others. */
static inline void fuzz_try_summed(const uint8_t *data, size_t len,
                                   void (*try_one)(struct hadb_slice bytes))
{
    try_one(hadb_slice(data, len));
    if (len < 4) {
        return;
    }
    uint8_t *copy = malloc(len); /* exact, so that a sanitizer sees reads behind the end */
    HADB_ASSERT(copy != NULL);
    memcpy(copy, data, len);
    hadb_put_u32(copy + len - 4, hadb_crc32c(0, copy, len - 4));
    try_one(hadb_slice(copy, len));
    free(copy);
}

#endif
