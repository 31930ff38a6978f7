/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the SigV4 signer: canonical request → string to sign → HMAC chain → Authorization.
 *
 * Thread: any; no state, no clock.
 * Invariants: what is signed is what is sent: path and query come encoded from the two encoders here, and every
 * header that is given is signed, the conditions of a PUT above all: whoever strips one breaks the signature.
 * Failure modes: HADB_ENOMEM. Derived keys are wiped from the stack.
 */
#include "storage/s3_sign.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/url.h"

#define HEX_HASH_BYTES 65

void hadb__s3_date(int64_t unix_s, char out[HADB_S3_DATE_BYTES])
{
    time_t when = (time_t)HADB_MIN(HADB_MAX(unix_s, 0), 253402300799); /* the year 9999 ends */
    struct tm tm;
    HADB_ASSERT(gmtime_r(&when, &tm));
    size_t len = strftime(out, HADB_S3_DATE_BYTES, "%Y%m%dT%H%M%SZ", &tm);
    HADB_ASSERT(len == HADB_S3_DATE_BYTES - 1);
}

int hadb__s3_path_encode(const char *path, struct hadb_buf *out)
{
    while (*path) {
        size_t len = strcspn(path, "/");
        int r = hadb_percent_encode(hadb_slice(path, len), out);
        path += len;
        if (r == 0 && *path == '/') {
            r = hadb_buf_append(out, path++, 1);
        }
        if (r) {
            return r;
        }
    }
    return 0;
}

/* One parameter, encoded: name=value at text[at..at+len). */
struct encoded_param {
    const char *text;
    size_t name_len, len;
};

/* By name, then by value, each in byte order, as AWS sorts. */
static int by_name_and_value(const void *a, const void *b)
{
    const struct encoded_param *x = a, *y = b;
    int r = hadb_slice_cmp(hadb_slice(x->text, x->name_len), hadb_slice(y->text, y->name_len));
    return r ? r : hadb_slice_cmp(hadb_slice(x->text, x->len), hadb_slice(y->text, y->len));
}

int hadb__s3_query_encode(const struct hadb__s3_param *params, size_t len, struct hadb_buf *out)
{
    HADB_ASSERT(len <= HADB_S3_QUERY_PARAMS_MAX);
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf text = {0};
    struct encoded_param sorted[HADB_S3_QUERY_PARAMS_MAX];
    size_t starts[HADB_S3_QUERY_PARAMS_MAX + 1] = {0};
    int r = 0;
    for (size_t i = 0; i < len && r == 0; i++) {
        r = hadb_percent_encode(hadb_slice_str(params[i].name), &text);
        sorted[i].name_len = text.len - starts[i];
        r = r ? r : hadb_buf_append_str(&text, "=");
        r = r ? r : hadb_percent_encode(hadb_slice_str(params[i].value), &text);
        starts[i + 1] = text.len;
    }
    if (r) {
        return r;
    }
    for (size_t i = 0; i < len; i++) { /* only now does the text stay where it is */
        sorted[i].text = (const char *)text.data + starts[i];
        sorted[i].len = starts[i + 1] - starts[i];
    }
    qsort(sorted, len, sizeof(sorted[0]), by_name_and_value);
    for (size_t i = 0; i < len && r == 0; i++) {
        r = i ? hadb_buf_append_str(out, "&") : 0;
        r = r ? r : hadb_buf_append(out, sorted[i].text, sorted[i].len);
    }
    return r;
}

static char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static int by_lower_name(const void *a, const void *b)
{
    const struct hadb__http_header *x = a, *y = b;
    size_t i = 0;
    while (x->name[i] && lower(x->name[i]) == lower(y->name[i])) {
        i++;
    }
    return (unsigned char)lower(x->name[i]) - (unsigned char)lower(y->name[i]);
}

static int append_lower(const char *name, struct hadb_buf *out)
{
    size_t from = out->len;
    int r = hadb_buf_append_str(out, name);
    for (size_t i = from; i < out->len; i++) {
        out->data[i] = (uint8_t)lower((char)out->data[i]);
    }
    return r;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* The value without blanks at both ends and with one blank for each run of them inside. */
static int append_collapsed(const char *value, struct hadb_buf *out)
{
    bool gap = false;
    size_t from = out->len;
    for (; *value; value++) {
        if (is_blank(*value)) {
            gap = out->len > from;
            continue;
        }
        int r = gap ? hadb_buf_append_str(out, " ") : 0;
        r = r ? r : hadb_buf_append(out, value, 1);
        if (r) {
            return r;
        }
        gap = false;
    }
    return 0;
}

static void sort_headers(const struct hadb__s3_to_sign *request, struct hadb__http_header *sorted)
{
    HADB_ASSERT(request->headers_len >= 1 && request->headers_len <= HADB_S3_SIGNED_HEADERS_MAX);
    memcpy(sorted, request->headers, request->headers_len * sizeof(sorted[0]));
    qsort(sorted, request->headers_len, sizeof(sorted[0]), by_lower_name);
    for (size_t i = 1; i < request->headers_len; i++) {
        HADB_ASSERT(by_lower_name(&sorted[i - 1], &sorted[i]) < 0);
    }
}

static int append_names(const struct hadb__http_header *sorted, size_t len, struct hadb_buf *out)
{
    int r = 0;
    for (size_t i = 0; i < len && r == 0; i++) {
        r = i ? hadb_buf_append_str(out, ";") : 0;
        r = r ? r : append_lower(sorted[i].name, out);
    }
    return r;
}

int hadb__s3_canonical(const struct hadb__s3_to_sign *request, struct hadb_buf *out)
{
    struct hadb__http_header sorted[HADB_S3_SIGNED_HEADERS_MAX];
    sort_headers(request, sorted);
    int r = hadb_buf_printf(out, "%s\n%s\n%s\n", request->method, request->path, request->query);
    for (size_t i = 0; i < request->headers_len && r == 0; i++) {
        r = append_lower(sorted[i].name, out);
        r = r ? r : hadb_buf_append_str(out, ":");
        r = r ? r : append_collapsed(sorted[i].value, out);
        r = r ? r : hadb_buf_append_str(out, "\n");
    }
    r = r ? r : hadb_buf_append_str(out, "\n");
    r = r ? r : append_names(sorted, request->headers_len, out);
    return r ? r : hadb_buf_printf(out, "\n%s", request->payload_hash);
}

/* One link of the chain, in place. */
static void chain(struct hadb_hash *key, const char *text)
{
    hadb_hmac_sha256(key->b, sizeof(key->b), text, strlen(text), key);
}

/* The key of a day, region and service, from the secret. */
static int derive_key(const struct hadb__s3_to_sign *request, struct hadb_hash *key)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf start = {0};
    if (hadb_buf_reserve(&start, strlen(request->secret) + 4) ||
        hadb_buf_append_str(&start, "AWS4") || hadb_buf_append_str(&start, request->secret)) {
        return HADB_ENOMEM;
    }
    hadb_hmac_sha256(start.data, start.len, request->date, 8, key);
    chain(key, request->region);
    chain(key, request->service);
    chain(key, "aws4_request");
    OPENSSL_cleanse(start.data, start.cap);
    return 0;
}

static int signature(const struct hadb__s3_to_sign *request, struct hadb_buf *scratch,
                     char out[HEX_HASH_BYTES])
{
    struct hadb_hash hash;
    char hex[HEX_HASH_BYTES];
    int r = hadb__s3_canonical(request, scratch);
    if (r) {
        return r;
    }
    hadb_sha256(scratch->data, scratch->len, &hash);
    hadb_hex_encode(hash.b, sizeof(hash.b), hex);
    hadb_buf_clear(scratch);
    r = hadb_buf_printf(scratch, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s", request->date,
                        request->date, request->region, request->service, hex);
    struct hadb_hash key;
    r = r ? r : derive_key(request, &key);
    if (r == 0) {
        hadb_hmac_sha256(key.b, sizeof(key.b), scratch->data, scratch->len, &hash);
        hadb_hex_encode(hash.b, sizeof(hash.b), out);
    }
    OPENSSL_cleanse(&key, sizeof(key));
    return r;
}

int hadb__s3_sign(const struct hadb__s3_to_sign *request, struct hadb_buf *out)
{
    HADB_ASSERT(strlen(request->date) == HADB_S3_DATE_BYTES - 1);
    HADB_ASSERT(request->path[0] == '/' && request->query);
    char hex[HEX_HASH_BYTES];
    struct hadb__http_header sorted[HADB_S3_SIGNED_HEADERS_MAX];
    hadb_buf_clear(out);
    int r = signature(request, out, hex);
    hadb_buf_clear(out);
    sort_headers(request, sorted);
    r = r ? r
          : hadb_buf_printf(
                out, "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request, SignedHeaders=",
                request->key_id, request->date, request->region, request->service);
    r = r ? r : append_names(sorted, request->headers_len, out);
    r = r ? r : hadb_buf_printf(out, ", Signature=%s", hex);
    return r ? r : (hadb_buf_cstr(out) ? 0 : HADB_ENOMEM);
}
