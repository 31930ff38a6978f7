/* SPDX-License-Identifier: Apache-2.0 */
/* Growing byte buffers, slices, little-endian integers, hex. */
#ifndef HADB_BASE_BUF_H
#define HADB_BASE_BUF_H
#include <string.h>

#include "base/util.h"
#include "hadb/error.h"

/* Makes room for @more bytes behind len. Returns 0 or HADB_ENOMEM; nothing changes on failure. */
int hadb_buf_reserve(struct hadb_buf *buf, size_t more);
int hadb_buf_append(struct hadb_buf *buf, const void *data, size_t len);
int hadb_buf_append_str(struct hadb_buf *buf, const char *s);
int hadb_buf_printf(struct hadb_buf *buf, const char *fmt, ...) HADB_PRINTF(2, 3); /* no NUL kept */
void hadb_buf_clear(struct hadb_buf *buf); /* keeps the memory */
/* Moves the bytes out; @buf is empty afterwards. */
struct hadb_buf hadb_buf_take(struct hadb_buf *buf);
/* NUL-terminates (not counted in len) and returns the text, NULL when out of memory. */
const char *hadb_buf_cstr(struct hadb_buf *buf);

static inline struct hadb_slice hadb_slice(const void *data, size_t len)
{
    return (struct hadb_slice){.data = data, .len = len};
}
static inline struct hadb_slice hadb_slice_str(const char *s)
{
    return (struct hadb_slice){.data = s, .len = strlen(s)};
}
static inline struct hadb_slice hadb_buf_slice(const struct hadb_buf *buf)
{
    return (struct hadb_slice){.data = buf->data, .len = buf->len};
}
/* Order of keys: bytes, then length. */
static inline int hadb_slice_cmp(struct hadb_slice a, struct hadb_slice b)
{
    size_t len = HADB_MIN(a.len, b.len);
    int r = len ? memcmp(a.data, b.data, len) : 0;
    return r ? r : (a.len > b.len) - (a.len < b.len);
}
static inline bool hadb_slice_eq(struct hadb_slice a, struct hadb_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}
static inline bool hadb_slice_starts(struct hadb_slice s, struct hadb_slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

/* Little-endian stores and loads, at any alignment. */
static inline void hadb_put_u16(void *p, uint16_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}
static inline void hadb_put_u32(void *p, uint32_t v)
{
    hadb_put_u16(p, (uint16_t)v);
    hadb_put_u16((uint8_t *)p + 2, (uint16_t)(v >> 16));
}
static inline void hadb_put_u64(void *p, uint64_t v)
{
    hadb_put_u32(p, (uint32_t)v);
    hadb_put_u32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}
static inline uint16_t hadb_get_u16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t hadb_get_u32(const void *p)
{
    return hadb_get_u16(p) | (uint32_t)hadb_get_u16((const uint8_t *)p + 2) << 16;
}
static inline uint64_t hadb_get_u64(const void *p)
{
    return hadb_get_u32(p) | (uint64_t)hadb_get_u32((const uint8_t *)p + 4) << 32;
}

/* Lower-case hex. @out holds 2 * len + 1 bytes. */
void hadb_hex_encode(const void *data, size_t len, char *out);
/* Exactly 2 * len hex digits: true, else false. */
bool hadb_hex_decode(const char *hex, size_t hex_len, void *out, size_t len);
#endif
