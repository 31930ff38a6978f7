/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns building and signing requests: operation and key → method, path, query, headers, body.
 *
 * Thread: any; no state, no I/O.
 * Invariants: there is one PUT of an object, and it has a condition; every header is signed, so a condition that somebody
 * strips on the way breaks the signature. All header values live in the request itself.
 * Failure modes: HADB_EINVAL for a key that is too long with the prefix, HADB_ENOMEM.
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "storage/s3_private.h"

void hadb__s3_request_deinit(struct hadb__s3_request *request)
{
    struct hadb_buf *bufs[] = {&request->path, &request->query, &request->own_body, &request->url,
                               &request->authorization};
    for (size_t i = 0; i < HADB_LEN(bufs); i++) {
        hadb_buf_deinit(bufs[i]);
    }
    *request = (struct hadb__s3_request){0};
}

static void add_header(struct hadb__s3_request *q, const char *name, const char *value)
{
    HADB_ASSERT(q->headers_len < HADB_S3_SIGNED_HEADERS_MAX);
    q->headers[q->headers_len++] = (struct hadb__http_header){.name = name, .value = value};
}

/* The name of the object in the bucket. */
static int append_name(const struct hadb__s3_config *config, const char *key, struct hadb_buf *out)
{
    int r = config->prefix[0] ? hadb_buf_printf(out, "%s/", config->prefix) : 0;
    return r ? r : hadb_buf_append_str(out, key);
}

static int begin(const struct hadb__s3_config *config, enum hadb_storage_op op, const char *method,
                 struct hadb__s3_request *q)
{
    *q = (struct hadb__s3_request){
        .op = op, .method = method, .reply_bytes_max = HADB_S3_SMALL_REPLY_BYTES_MAX};
    add_header(q, "Host", config->host);
    return 0;
}

/* Path of an object, and parameters. */
static int set_object_params(const struct hadb__s3_config *config, const char *key,
                             const struct hadb__s3_param *params, size_t len,
                             struct hadb__s3_request *q, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf name = {0};
    if (strlen(config->prefix) + 1 + strlen(key) > HADB_S3_KEY_BYTES_MAX) {
        return hadb_fail(
            err, HADB_EINVAL,
            "object key is longer than the %u bytes of s3 with the prefix of the store",
            HADB_S3_KEY_BYTES_MAX);
    }
    int r = append_name(config, key, &name);
    const char *text = r ? NULL : hadb_buf_cstr(&name);
    r = text ? hadb_buf_printf(&q->path, "%s/", config->base_path) : HADB_ENOMEM;
    r = r ? r : hadb__s3_path_encode(text, &q->path);
    r = r ? r : hadb__s3_query_encode(params, len, &q->query);
    if (r || !hadb_buf_cstr(&q->path) || !hadb_buf_cstr(&q->query)) {
        return hadb_fail_nomem(err);
    }
    return 0;
}

static int set_object(const struct hadb__s3_config *config, const char *key,
                      struct hadb__s3_request *q, struct hadb_error *err)
{
    return set_object_params(config, key, NULL, 0, q, err);
}

/* Path of the bucket, and parameters. */
static int set_bucket(const struct hadb__s3_config *config, const struct hadb__s3_param *params,
                      size_t len, struct hadb__s3_request *q, struct hadb_error *err)
{
    int r = hadb_buf_append_str(&q->path, config->base_path[0] ? config->base_path : "/");
    r = r ? r : hadb__s3_query_encode(params, len, &q->query);
    if (r || !hadb_buf_cstr(&q->path) || !hadb_buf_cstr(&q->query)) {
        return hadb_fail_nomem(err);
    }
    return 0;
}

/* A request that failed to be built is empty again. */
static int end(struct hadb__s3_request *q, int r)
{
    if (r) {
        hadb__s3_request_deinit(q);
    } else {
        q->fixed_len = q->headers_len;
    }
    return r;
}

int hadb__s3_build_get(const struct hadb__s3_config *config, const char *key,
                       struct hadb__s3_request *out, struct hadb_error *err)
{
    begin(config, HADB_STORAGE_OP_GET, "GET", out);
    add_header(out, "Cache-Control", "no-store");
    out->reply_bytes_max = HADB_OBJECT_BYTES_MAX;
    return end(out, set_object(config, key, out, err));
}

int hadb__s3_build_range(const struct hadb__s3_config *config, const struct hadb_storage_io *io,
                         struct hadb__s3_request *out, struct hadb_error *err)
{
    begin(config, HADB_STORAGE_OP_GET_RANGE, "GET", out);
    out->reply_bytes_max = HADB_OBJECT_BYTES_MAX; /* a server may send the whole object instead */
    if (!hadb__http_range(io, out->range)) {
        return hadb__s3_build_head(config, io->key, out, err);
    }
    add_header(out, "Range", out->range);
    add_header(out, "Cache-Control", "no-store");
    return end(out, set_object(config, io->key, out, err));
}

int hadb__s3_build_head(const struct hadb__s3_config *config, const char *key,
                        struct hadb__s3_request *out, struct hadb_error *err)
{
    begin(config, HADB_STORAGE_OP_HEAD, "HEAD", out);
    add_header(out, "Cache-Control", "no-store");
    return end(out, set_object(config, key, out, err));
}

/* Base64 of up to 16 bytes. */
static void base64(const uint8_t *data, size_t len, char *out)
{
    HADB_ASSERT(len <= 16);
    EVP_EncodeBlock((uint8_t *)out, data, (int)len);
}

static bool is_unsigned(const struct hadb__s3_config *config, size_t len)
{
    return config->tls && len > HADB_S3_SIGNED_BODY_BYTES_MAX;
}

/* TLS keeps a large body whole on the way, a checksum tells the server; a SHA-256 is slow. */
static void add_checksum(const struct hadb__s3_config *config, struct hadb__s3_request *q)
{
    if (is_unsigned(config, q->body.len)) {
        uint32_t crc = hadb_crc32c(0, q->body.data, q->body.len);
        uint8_t bytes[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8),
                            (uint8_t)crc};
        base64(bytes, sizeof(bytes), q->crc32c);
        add_header(q, "x-amz-checksum-crc32c", q->crc32c);
    }
}

int hadb__s3_build_put(const struct hadb__s3_config *config, const char *key,
                       struct hadb_slice body, const struct hadb_tag *expected,
                       struct hadb__s3_request *out, struct hadb_error *err)
{
    begin(config, expected ? HADB_STORAGE_OP_REPLACE : HADB_STORAGE_OP_CREATE, "PUT", out);
    out->creates = !expected;
    out->body = body;
    if (expected && !hadb__http_etag_usable(expected->s)) {
        return end(out, hadb_fail(err, HADB_EINVAL, "replace needs the tag that was read"));
    }
    snprintf(out->condition, sizeof(out->condition), "%s", expected ? expected->s : "*");
    add_header(out, expected ? "If-Match" : "If-None-Match", out->condition);
    add_header(out, "Content-Type", "application/octet-stream");
    add_checksum(config, out);
    return end(out, set_object(config, key, out, err));
}

int hadb__s3_build_list(const struct hadb__s3_config *config, const char *prefix, const char *after,
                        size_t max, struct hadb__s3_request *out, struct hadb_error *err)
{
    char max_keys[16];
    snprintf(max_keys, sizeof(max_keys), "%zu", max);
    struct hadb__s3_param params[5] = {
        {"list-type", "2"}, {"encoding-type", "url"}, {"max-keys", max_keys}, {"prefix", prefix}};
    size_t len = 4;
    if (after[0]) {
        params[len++] = (struct hadb__s3_param){"start-after", after};
    }
    begin(config, HADB_STORAGE_OP_LIST, "GET", out);
    out->reply_bytes_max = HADB_S3_LISTING_BYTES_MAX;
    return end(out, set_bucket(config, params, len, out, err));
}

static int append_delete_body(const struct hadb__s3_config *config, const char *const *keys,
                              size_t len, struct hadb_buf *out)
{
    /* Names are made of bytes that mean nothing in XML (storage/key.h). */
    int r = hadb_buf_append_str(out, "<Delete><Quiet>true</Quiet>");
    for (size_t i = 0; i < len && r == 0; i++) {
        r = hadb_buf_append_str(out, "<Object><Key>");
        r = r ? r : append_name(config, keys[i], out);
        r = r ? r : hadb_buf_append_str(out, "</Key></Object>");
    }
    return r ? r : hadb_buf_append_str(out, "</Delete>");
}

int hadb__s3_build_delete(const struct hadb__s3_config *config, const char *const *keys, size_t len,
                          struct hadb__s3_request *out, struct hadb_error *err)
{
    HADB_ASSERT(len > 0 && len <= HADB_S3_DELETE_LEN_MAX);
    static const struct hadb__s3_param params[] = {{"delete", ""}};
    uint8_t md5[16];
    size_t md5_len = 0;
    begin(config, HADB_STORAGE_OP_DELETE_MANY, "POST", out);
    out->reply_bytes_max = HADB_S3_LISTING_BYTES_MAX;
    for (size_t i = 0; i < len; i++) {
        if (strlen(config->prefix) + 1 + strlen(keys[i]) > HADB_S3_KEY_BYTES_MAX) {
            return end(out, hadb_fail(err, HADB_EINVAL, "object key is too long for s3"));
        }
    }
    if (append_delete_body(config, keys, len, &out->own_body) ||
        EVP_Q_digest(NULL, "MD5", NULL, out->own_body.data, out->own_body.len, md5, &md5_len) !=
            1) {
        return end(out, hadb_fail_nomem(err));
    }
    base64(md5, sizeof(md5), out->content_md5);
    out->body = hadb_buf_slice(&out->own_body);
    add_header(out, "Content-MD5", out->content_md5);
    add_header(out, "Content-Type", "application/xml");
    return end(out, set_bucket(config, params, HADB_LEN(params), out, err));
}

/* --- an object in parts -------------------------------------------------------------------------- */

static void begin_step(const struct hadb__s3_config *config, enum hadb__s3_step step,
                       const char *method, struct hadb__s3_request *q)
{
    begin(config, step == HADB__S3_COMPLETE ? HADB_STORAGE_OP_CREATE : HADB_STORAGE_OP_LIST, method,
          q);
    q->step = step;
}

int hadb__s3_build_initiate(const struct hadb__s3_config *config, const char *key,
                            struct hadb__s3_request *out, struct hadb_error *err)
{
    static const struct hadb__s3_param params[] = {{"uploads", ""}};
    begin_step(config, HADB__S3_INITIATE, "POST", out);
    add_header(out, "Content-Type", "application/octet-stream");
    if (config->tls) { /* parts are larger than what is signed: they carry checksums */
        add_header(out, "x-amz-checksum-algorithm", "CRC32C");
    }
    return end(out, set_object_params(config, key, params, HADB_LEN(params), out, err));
}

int hadb__s3_build_part(const struct hadb__s3_config *config, const char *key, const char *upload,
                        unsigned number, struct hadb_slice body, struct hadb__s3_request *out,
                        struct hadb_error *err)
{
    HADB_ASSERT(number >= 1 && number <= HADB_S3_UPLOAD_PARTS_MAX);
    char text[16];
    snprintf(text, sizeof(text), "%u", number);
    const struct hadb__s3_param params[] = {{"partNumber", text}, {"uploadId", upload}};
    begin_step(config, HADB__S3_PART, "PUT", out);
    out->body = body;
    add_checksum(config, out);
    return end(out, set_object_params(config, key, params, HADB_LEN(params), out, err));
}

static int append_escaped(const char *text, struct hadb_buf *out)
{
    int r = 0;
    for (; *text && r == 0; text++) {
        r = *text == '&'   ? hadb_buf_append_str(out, "&amp;")
            : *text == '<' ? hadb_buf_append_str(out, "&lt;")
            : *text == '>' ? hadb_buf_append_str(out, "&gt;")
                           : hadb_buf_append(out, text, 1);
    }
    return r;
}

static int append_part(const struct hadb__s3_part *part, size_t number, struct hadb_buf *out)
{
    int r = hadb_buf_printf(out, "<Part><PartNumber>%zu</PartNumber><ETag>", number);
    r = r ? r : append_escaped(part->etag, out);
    r = r ? r : hadb_buf_append_str(out, "</ETag>");
    if (r == 0 && part->crc32c[0]) {
        r = hadb_buf_printf(out, "<ChecksumCRC32C>%s</ChecksumCRC32C>", part->crc32c);
    }
    return r ? r : hadb_buf_append_str(out, "</Part>");
}

int hadb__s3_build_complete(const struct hadb__s3_config *config, const char *key,
                            const char *upload, const struct hadb__s3_part *parts, size_t len,
                            struct hadb__s3_request *out, struct hadb_error *err)
{
    const struct hadb__s3_param params[] = {{"uploadId", upload}};
    begin_step(config, HADB__S3_COMPLETE, "POST", out);
    out->creates = true;
    snprintf(out->condition, sizeof(out->condition), "*");
    add_header(out, "If-None-Match", out->condition);
    add_header(out, "Content-Type", "application/xml");
    int r = hadb_buf_append_str(&out->own_body, "<CompleteMultipartUpload>");
    for (size_t i = 0; i < len && r == 0; i++) {
        r = append_part(&parts[i], i + 1, &out->own_body);
    }
    r = r ? r : hadb_buf_append_str(&out->own_body, "</CompleteMultipartUpload>");
    if (r) {
        return end(out, hadb_fail_nomem(err));
    }
    out->body = hadb_buf_slice(&out->own_body);
    return end(out, set_object_params(config, key, params, HADB_LEN(params), out, err));
}

int hadb__s3_build_abort(const struct hadb__s3_config *config, const char *key, const char *upload,
                         struct hadb__s3_request *out, struct hadb_error *err)
{
    const struct hadb__s3_param params[] = {{"uploadId", upload}};
    begin_step(config, HADB__S3_ABORT, "DELETE", out);
    return end(out, set_object_params(config, key, params, HADB_LEN(params), out, err));
}

int hadb__s3_build_uploads(const struct hadb__s3_config *config, struct hadb__s3_request *out,
                           struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf prefix = {0};
    int r = hadb_buf_printf(&prefix, "%s/", config->prefix);
    if (r || !hadb_buf_cstr(&prefix)) {
        return hadb_fail_nomem(err);
    }
    const struct hadb__s3_param params[] = {{"uploads", ""},
                                            {"max-uploads", "1000"},
                                            {"encoding-type", "url"},
                                            {"prefix", (const char *)prefix.data}};
    begin_step(config, HADB__S3_UPLOADS, "GET", out);
    out->reply_bytes_max = HADB_S3_LISTING_BYTES_MAX;
    return end(out, set_bucket(config, params, HADB_LEN(params), out, err));
}

/* --- signing ------------------------------------------------------------------------------------- */

int hadb__s3_sign_request(const struct hadb__s3_config *config, const struct hadb__s3_creds *creds,
                          int64_t unix_s, struct hadb__s3_request *q, struct hadb_error *err)
{
    q->headers_len = q->fixed_len;
    hadb__s3_date(unix_s, q->date);
    if (q->crc32c[0]) {
        snprintf(q->payload_hash, sizeof(q->payload_hash), HADB_S3_UNSIGNED_PAYLOAD);
    } else if (!q->payload_hash[0]) {
        struct hadb_hash hash;
        hadb_sha256(q->body.data, q->body.len, &hash);
        hadb_hex_encode(hash.b, sizeof(hash.b), q->payload_hash);
    }
    add_header(q, "x-amz-content-sha256", q->payload_hash);
    add_header(q, "x-amz-date", q->date);
    if (creds->token) {
        add_header(q, "x-amz-security-token", creds->token);
    }
    struct hadb__s3_to_sign to_sign = {
        .method = q->method,
        .path = (const char *)q->path.data,
        .query = (const char *)q->query.data,
        .headers = q->headers,
        .headers_len = q->headers_len,
        .payload_hash = q->payload_hash,
        .date = q->date,
        .region = config->region,
        .service = "s3",
        .key_id = creds->key_id,
        .secret = creds->secret,
    };
    int r = hadb__s3_sign(&to_sign, &q->authorization);
    hadb_buf_clear(&q->url);
    r = r ? r
          : hadb_buf_printf(&q->url, "%s%s%s%s", config->origin, to_sign.path,
                            q->query.len ? "?" : "", to_sign.query);
    if (r || !hadb_buf_cstr(&q->url)) {
        return hadb_fail_nomem(err);
    }
    add_header(q, "Authorization", (const char *)q->authorization.data);
    return 0;
}
