/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the S3 backend share. A request is built (s3_request.c), signed, performed (base/http.c,
 * or http_engine.c without blocking) and judged (s3_outcome.c): all but the performing are functions of their arguments.
 */
#ifndef HADB_STORAGE_S3_PRIVATE_H
#define HADB_STORAGE_S3_PRIVATE_H
#include "base/http.h"
#include "base/url.h"
#include "storage/counters.h"
#include "storage/http_io.h"
#include "storage/s3_creds.h"
#include "storage/s3_sign.h"
#include "storage/s3_xml.h"

#define HADB_S3_KEY_BYTES_MAX 1024u /* with the prefix; what S3 allows */
#define HADB_S3_PREFIX_BYTES_MAX 512u
#define HADB_S3_DELETE_LEN_MAX 1000u /* keys of one batch; what S3 allows */
#define HADB_S3_SMALL_REPLY_BYTES_MAX (16u << 10)
#define HADB_S3_LISTING_BYTES_MAX (8u << 20)
#define HADB_S3_SIGNED_BODY_BYTES_MAX \
    (1u << 20) /* over TLS, larger ones go with a checksum instead */

/* Where and how; const after it was opened. All text is owned. */
struct hadb__s3_config {
    char *bucket;
    char *prefix; /* "" or a key without slash at the end */
    char *region;
    char *endpoint; /* for messages: scheme://host[:port] without the bucket */
    char
        *origin; /* scheme://host[:port] of requests; the bucket is in the host unless path_style */
    char *host;  /* Host header of requests */
    char *base_path; /* encoded, in front of "/key": "" or "/bucket" */
    char *ca;        /* file with certificates to trust; NULL = the system's */
    char *profile;   /* section of the shared profile file; NULL = as the environment says */
    bool tls;
    bool loopback;
    uint32_t connect_ms_max;
    uint32_t idle_ms_max;
};

/* From "s3://bucket/prefix?…" and the environment. 0, HADB_EINVAL, HADB_ENOMEM. */
int hadb__s3_config_open(const struct hadb_url *url, hadb__s3_getvar_fn getvar,
                         struct hadb__s3_config *out, struct hadb_error *err);
void hadb__s3_config_deinit(struct hadb__s3_config *config);

/* Steps of an upload in parts; only the last one changes the object. */
enum hadb__s3_step {
    HADB__S3_WHOLE,    /* no such step: an operation of its own */
    HADB__S3_INITIATE, /* ends with the id of the upload in the reply's body */
    HADB__S3_PART,
    HADB__S3_COMPLETE, /* ends with the tag in reply->etag */
    HADB__S3_ABORT,
    HADB__S3_UPLOADS, /* those that were begun and not ended */
};

/* One request; zero = empty. May be signed again, later or with other credentials. */
struct hadb__s3_request {
    enum hadb_storage_op op; /* steps but COMPLETE: LIST, for they write nothing that can be read */
    enum hadb__s3_step step;
    bool creates; /* the PUT has If-None-Match: *, else If-Match */
    const char *method;
    struct hadb_buf path, query; /* encoded, NUL-terminated */
    struct hadb_slice body;
    struct hadb_buf own_body; /* behind body, when it was made here */
    size_t reply_bytes_max;
    struct hadb_buf url, authorization; /* NUL-terminated; by sign */
    char condition[HADB_TAG_MAX + 1];
    char range[HADB_HTTP_RANGE_BYTES], content_md5[32], crc32c[16], payload_hash[72],
        date[HADB_S3_DATE_BYTES];
    struct hadb__http_header headers[HADB_S3_SIGNED_HEADERS_MAX]; /* point into this struct */
    size_t headers_len;                                           /* all to be sent */
    size_t fixed_len; /* the first of them, which are there before it is signed */
};

/* Builders, one per operation: 0, HADB_EINVAL (key too long with the prefix), HADB_ENOMEM. */
int hadb__s3_build_get(const struct hadb__s3_config *config, const char *key,
                       struct hadb__s3_request *out, struct hadb_error *err);
/* A look at the object where the range cannot be asked for, and is empty. */
int hadb__s3_build_range(const struct hadb__s3_config *config, const struct hadb_storage_io *io,
                         struct hadb__s3_request *out, struct hadb_error *err);
int hadb__s3_build_head(const struct hadb__s3_config *config, const char *key,
                        struct hadb__s3_request *out, struct hadb_error *err);
/* The only PUT of an object that there is: it always has a condition. @expected NULL: the key must be absent. */
int hadb__s3_build_put(const struct hadb__s3_config *config, const char *key,
                       struct hadb_slice body, const struct hadb_tag *expected,
                       struct hadb__s3_request *out, struct hadb_error *err);
/* @prefix and @after are whole object names (with the prefix of the store), not keys. */
int hadb__s3_build_list(const struct hadb__s3_config *config, const char *prefix, const char *after,
                        size_t max, struct hadb__s3_request *out, struct hadb_error *err);
int hadb__s3_build_delete(const struct hadb__s3_config *config, const char *const *keys, size_t len,
                          struct hadb__s3_request *out, struct hadb_error *err);
/* An object in parts: the id of the upload comes from HADB__S3_INITIATE. */
#define HADB_S3_UPLOAD_ID_BYTES_MAX 1024u
#define HADB_S3_UPLOAD_PARTS_MAX 64u
struct hadb__s3_part {
    char etag[HADB_TAG_MAX + 1];
    char crc32c[16]; /* "" where the body was signed */
};
int hadb__s3_build_initiate(const struct hadb__s3_config *config, const char *key,
                            struct hadb__s3_request *out, struct hadb_error *err);
int hadb__s3_build_part(const struct hadb__s3_config *config, const char *key, const char *upload,
                        unsigned number, struct hadb_slice body, struct hadb__s3_request *out,
                        struct hadb_error *err);
/* The key must be absent: If-None-Match, as with the PUT. */
int hadb__s3_build_complete(const struct hadb__s3_config *config, const char *key,
                            const char *upload, const struct hadb__s3_part *parts, size_t len,
                            struct hadb__s3_request *out, struct hadb_error *err);
int hadb__s3_build_abort(const struct hadb__s3_config *config, const char *key, const char *upload,
                         struct hadb__s3_request *out, struct hadb_error *err);
/* Below the prefix of the store, which has one: else they could be somebody else's. */
int hadb__s3_build_uploads(const struct hadb__s3_config *config, struct hadb__s3_request *out,
                           struct hadb_error *err);
/* Adds date, payload hash, token and signature. 0 or HADB_ENOMEM. */
int hadb__s3_sign_request(const struct hadb__s3_config *config, const struct hadb__s3_creds *creds,
                          int64_t unix_s, struct hadb__s3_request *request, struct hadb_error *err);
void hadb__s3_request_deinit(struct hadb__s3_request *request);

/* What is worth doing before the same request is signed and sent once more. Only after a refusal. */
enum hadb__s3_advice {
    HADB__S3_SETTLED,
    HADB__S3_LEARN_CLOCK,       /* the server's clock differs: reply->date_unix_s tells */
    HADB__S3_RENEW_CREDENTIALS, /* they have expired or were replaced */
};
/* @now_unix_s: the time that the request was signed with. */
enum hadb__s3_advice hadb__s3_advise(const struct hadb__s3_request *request,
                                     const struct hadb__http_reply *reply, int64_t now_unix_s);

/*
 * The outcome of a finished request, by the rule of include/hadb/storage.h: 0, HADB_ABSENT, HADB_EXISTS,
 * HADB_CAS_LOST, or a failure. For a create or replace 0 means that there is a good tag.
 */
int hadb__s3_outcome(const struct hadb__s3_config *config, const struct hadb__s3_request *request,
                     struct hadb__http_reply *reply, struct hadb_error *err);
/*
 * A HEAD has no body that tells S3 from a proxy that lost its way: an absence without S3's header is to be confirmed by
 * a GET of the first byte, whose outcome then goes through hadb__s3_confirmed.
 */
bool hadb__s3_is_doubtful(const struct hadb__s3_request *request,
                          const struct hadb__http_reply *reply, int r);
int hadb__s3_confirmed(int r, struct hadb_error *err);
/* delete_many after 0: did the reply report keys that are still there? 0 or a failure. */
int hadb__s3_delete_result(const struct hadb__s3_config *config,
                           const struct hadb__http_reply *reply, struct hadb_error *err);
#endif
