/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths and query strings, on the raw bytes as they were sent; and the JSON body of errors.
 *
 * Thread: any. No state.
 * Invariants: nothing is decoded before it is cut apart, so an encoded '/', '&', '=' or '%' inside a key stays
 * part of the key.
 */
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/url.h"
#include "node/http_server_private.h"

bool hadb_http_query_find(struct hadb_slice query, const char *name, struct hadb_slice *value)
{
    const char *p = query.data;
    size_t left = query.len;
    size_t name_len = strlen(name);
    while (left > 0) {
        const char *amp = memchr(p, '&', left);
        size_t len = amp ? (size_t)(amp - p) : left;
        const char *eq = memchr(p, '=', len);
        size_t key_len = eq ? (size_t)(eq - p) : len;
        if (key_len == name_len && memcmp(p, name, name_len) == 0) {
            *value = eq ? hadb_slice(eq + 1, len - key_len - 1) : hadb_slice("", 0);
            return true;
        }
        size_t step = amp ? len + 1 : len;
        p += step;
        left -= step;
    }
    return false;
}

int hadb_http_query_get(struct hadb_slice query, const char *name, struct hadb_buf *out,
                        struct hadb_error *err)
{
    struct hadb_slice value;
    if (!hadb_http_query_find(query, name, &value)) {
        return HADB_ABSENT;
    }
    struct hadb_buf decoded = {0};
    if (hadb_buf_reserve(&decoded, value.len + 1) != 0) {
        return hadb_fail_nomem(err);
    }
    if (!hadb_percent_decode(value.data, value.len, &decoded)) {
        hadb_buf_deinit(&decoded);
        return hadb_fail(err, HADB_EINVAL, "bad percent escape in the query parameter '%s'", name);
    }
    hadb_buf_deinit(out);
    *out = decoded;
    return 0;
}

bool hadb_http_path_next(struct hadb_slice *path, struct hadb_slice *segment)
{
    const char *p = path->data;
    if (path->len == 0 || *p != '/') {
        return false;
    }
    const char *slash = memchr(p + 1, '/', path->len - 1);
    size_t len = slash ? (size_t)(slash - p) : path->len;
    *segment = hadb_slice(p + 1, len - 1);
    *path = hadb_slice(p + len, path->len - len);
    return true;
}

/* Length of the UTF-8 character at @p (RFC 3629: no overlong forms, no surrogates); 0 when it is none. The text ends
 * with NUL, which is no continuation. */
static size_t utf8_len(const unsigned char *p)
{
    if (p[0] < 0x80) {
        return 1;
    }
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || (p[0] == 0xe0 && p[1] < 0xa0) ||
        (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f)) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

/* Quoted input may be anything: what is not UTF-8 becomes U+FFFD. */
static int append_escaped(const char *text, struct hadb_buf *out)
{
    int r = 0;
    const unsigned char *p = (const unsigned char *)text;
    while (*p && r == 0) {
        size_t len = utf8_len(p);
        if (*p == '"' || *p == '\\') {
            r = hadb_buf_printf(out, "\\%c", *p);
        } else if (*p < 0x20 || *p == 0x7f) {
            r = hadb_buf_printf(out, "\\u%04x", *p);
        } else if (len == 0) {
            r = hadb_buf_append_str(out, "\xef\xbf\xbd");
        } else {
            r = hadb_buf_append(out, p, len);
        }
        p += len ? len : 1;
    }
    return r;
}

bool hadb__http_error_json(int code, const char *message, struct hadb_buf *out)
{
    return hadb_buf_append_str(out, "{\"error\":\"") == 0 &&
           append_escaped(hadb_code_name(code), out) == 0 &&
           hadb_buf_append_str(out, "\",\"message\":\"") == 0 &&
           append_escaped(message, out) == 0 && hadb_buf_append_str(out, "\"}\n") == 0;
}
