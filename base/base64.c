/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Base64 (RFC 4648, section 4, with padding).
 *
 * Thread: any; no state. Failure modes: HADB_ENOMEM; false for text that encodes nothing.
 */
#include "base/base64.h"

#include <string.h>

#include "base/buf.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int hadb__base64_encode(struct hadb_slice in, struct hadb_buf *out)
{
    const uint8_t *p = in.data;
    int r = hadb_buf_reserve(out, (in.len + 2) / 3 * 4);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < in.len; i += 3) {
        size_t left = in.len - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                     (left > 2 ? p[i + 2] : 0);
        uint8_t *q = out->data + out->len;
        q[0] = (uint8_t)digits[v >> 18];
        q[1] = (uint8_t)digits[v >> 12 & 63];
        q[2] = left > 1 ? (uint8_t)digits[v >> 6 & 63] : '=';
        q[3] = left > 2 ? (uint8_t)digits[v & 63] : '=';
        out->len += 4;
    }
    return 0;
}

static int digit(char c)
{
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

bool hadb__base64_decode(const char *in, size_t len, struct hadb_buf *out)
{
    if (len % 4 != 0 || hadb_buf_reserve(out, len / 4 * 3 + 1) < 0) {
        return false;
    }
    for (size_t i = 0; i < len; i += 4) {
        bool last = i + 4 == len;
        unsigned pads = last ? (in[i + 3] == '=') + (in[i + 3] == '=' && in[i + 2] == '=') : 0;
        uint32_t v = 0;
        for (unsigned k = 0; k < 4; k++) {
            int d = k >= 4 - pads ? 0 : digit(in[i + k]);
            if (d < 0) {
                return false;
            }
            v = v << 6 | (uint32_t)d;
        }
        if ((pads == 1 && (v & 0xff)) || (pads == 2 && (v & 0xffff))) {
            return false; /* bits that nobody asked for */
        }
        for (unsigned k = 0; k < 3 - pads; k++) {
            out->data[out->len++] = (uint8_t)(v >> (16 - 8 * k));
        }
    }
    return true;
}
