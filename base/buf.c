/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growing byte buffers and hex.
 *
 * Thread: a buffer belongs to one thread at a time.
 * Invariants: len <= cap; a failed call leaves the buffer as it was; sizes are overflow-checked.
 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"

#define BUF_CAP_MIN 64u

int hadb_buf_reserve(struct hadb_buf *buf, size_t more)
{
    HADB_ASSERT(buf->len <= buf->cap);
    if (more <= buf->cap - buf->len) {
        return 0;
    }
    size_t need = 0;
    if (__builtin_add_overflow(buf->len, more, &need)) {
        return HADB_ENOMEM;
    }
    /* Grow by half at least, so that n appends copy O(n) bytes. */
    size_t cap = 0;
    if (__builtin_add_overflow(buf->cap, buf->cap / 2, &cap)) {
        cap = need;
    }
    cap = HADB_MAX(cap, HADB_MAX(need, BUF_CAP_MIN));
    uint8_t *data = hadb_realloc(buf->data, cap);
    if (!data) {
        return HADB_ENOMEM;
    }
    buf->data = data;
    buf->cap = cap;
    return 0;
}

int hadb_buf_append(struct hadb_buf *buf, const void *data, size_t len)
{
    if (len == 0) {
        return 0;
    }
    int r = hadb_buf_reserve(buf, len);
    if (r < 0) {
        return r;
    }
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    return 0;
}

int hadb_buf_append_str(struct hadb_buf *buf, const char *s)
{
    return hadb_buf_append(buf, s, strlen(s));
}

int hadb_buf_printf(struct hadb_buf *buf, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    /* vsnprintf insists on writing a NUL, which is not kept. */
    int r = len < 0 ? HADB_ENOMEM : hadb_buf_reserve(buf, (size_t)len + 1);
    if (r == 0) {
        vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, fmt, again);
        buf->len += (size_t)len;
    }
    va_end(again);
    return r;
}

void hadb_buf_clear(struct hadb_buf *buf)
{
    buf->len = 0;
}

struct hadb_buf hadb_buf_take(struct hadb_buf *buf)
{
    struct hadb_buf taken = *buf;
    *buf = (struct hadb_buf){0};
    return taken;
}

const char *hadb_buf_cstr(struct hadb_buf *buf)
{
    if (hadb_buf_reserve(buf, 1) < 0) {
        return NULL;
    }
    buf->data[buf->len] = '\0';
    return (const char *)buf->data;
}

void hadb_buf_deinit(struct hadb_buf *buf)
{
    if (buf) {
        hadb_free(buf->data);
        *buf = (struct hadb_buf){0};
    }
}

void hadb_hex_encode(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hadb_hex_decode(const char *hex, size_t hex_len, void *out, size_t len)
{
    if (hex_len % 2 != 0 || hex_len / 2 != len) {
        return false;
    }
    uint8_t *bytes = out;
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(hex[2 * i]);
        int low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
