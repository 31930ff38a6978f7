/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648, section 4, with padding). Any thread. */
#ifndef HADB_BASE_BASE64_H
#define HADB_BASE_BASE64_H
#include "hadb/types.h"

/* Appends the text of @in; 0 or HADB_ENOMEM. */
int hadb__base64_encode(struct hadb_slice in, struct hadb_buf *out);
/* Appends the bytes; false when the text is bad, or out of memory (never with len / 4 * 3 + 1 bytes reserved). */
bool hadb__base64_decode(const char *in, size_t len, struct hadb_buf *out);
#endif
