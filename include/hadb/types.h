/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The small types that every public header of libhadb shares.
 *
 * Names: `_ms` is milliseconds on a clock that only moves forward, `_unix_ms` is wall clock,
 * `_bytes` is a size in bytes, `_len` a number of items, `_max` an inclusive bound.
 */
#ifndef HADB_TYPES_H
#define HADB_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define HADB_API __attribute__((visibility("default")))
#else
#define HADB_API
#endif

/* clang-format off */
#ifdef __cplusplus
#define HADB_BEGIN_DECLS extern "C" {
#define HADB_END_DECLS }
#else
#define HADB_BEGIN_DECLS
#define HADB_END_DECLS
#endif
/* clang-format on */

HADB_BEGIN_DECLS

/** Number of a committed transaction of one database: 1, 2, 3 … without a gap; 0 = none yet. */
typedef uint64_t hadb_txid;

/** 256-bit SHA-256 value. */
struct hadb_hash {
    uint8_t b[32];
};

/** 128-bit identifier (UUID, incarnation, nonce), in wire order. */
struct hadb_id {
    uint8_t b[16];
};

/** Bytes that are borrowed for the duration of a call. @data may be NULL when @len is 0. */
struct hadb_slice {
    const void *data;
    size_t len;
};

/** Bytes that are owned: hadb_buf_deinit() frees them. The zero value is an empty buffer. */
struct hadb_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

/** Opaque tag of one stored version of an object, NUL-terminated, compared byte by byte. */
#define HADB_TAG_MAX 127
struct hadb_tag {
    char s[HADB_TAG_MAX + 1];
};

/**
 * A place in a database's history: the last entry that counts, and where the next one goes.
 * The next entry is read at log/@term/@slot+1.
 */
struct hadb_pos {
    uint64_t term;         /* term in which the next entry is expected */
    uint64_t slot;         /* last DATA slot that is covered; 0 = none */
    hadb_txid txid;        /* last transaction that is covered; 0 = none */
    struct hadb_hash hash; /* chain hash of the last entry (DATA or SEAL); zero at the very start */
};

/** A cancel flag that may be set by any thread; the zero value is "not cancelled". */
struct hadb_cancel {
    int flag; /* atomic: __atomic builtins only */
};

/** What every call that may block carries. There is no hidden default time-out. */
struct hadb_call {
    uint64_t deadline_ms;             /* absolute, on hadb_env's boot-time clock; 0 = no deadline */
    const struct hadb_cancel *cancel; /* may be NULL */
    const char *database;             /* for logs and traces; may be NULL */
    hadb_txid txid;                   /* for traces; 0 = none */
};

/* Limits of the data model. Each is checked at the edge and refused with HADB_ETOOBIG. */
#define HADB_KEY_BYTES_MAX 65536u              /* key: 1 byte to 64 KiB */
#define HADB_VALUE_BYTES_MAX (64u << 20)       /* value: 0 bytes to 64 MiB */
#define HADB_BATCH_BYTES_MAX (256u << 20)      /* one transaction */
#define HADB_ENTRY_INLINE_BYTES_MAX (4u << 20) /* entry body in the log object; above: a blob */
#define HADB_MANIFEST_BYTES_MAX (1u << 20)
#define HADB_NAME_BYTES_MAX 64u                /* node and database names: [A-Za-z0-9._-] */

/** Free a buffer and make it empty; accepts NULL. Returns nothing. Errors none. Threads any. */
HADB_API void hadb_buf_deinit(struct hadb_buf *buf);

HADB_END_DECLS
#endif
