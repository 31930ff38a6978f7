/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signature Version 4 of requests, in the form of S3: the path is encoded once and never normalised.
 * Pure functions: the time comes in. Any thread.
 */
#ifndef HADB_STORAGE_S3_SIGN_H
#define HADB_STORAGE_S3_SIGN_H
#include "base/http.h"

#define HADB_S3_DATE_BYTES 17 /* 20150830T123600Z and NUL */
#define HADB_S3_SIGNED_HEADERS_MAX 24u
#define HADB_S3_QUERY_PARAMS_MAX 16u
#define HADB_S3_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"

struct hadb__s3_param {
    const char *name; /* decoded, like the value; "" as value gives "name=" */
    const char *value;
};

struct hadb__s3_to_sign {
    const char *method;
    const char *path;                        /* as sent: from hadb__s3_path_encode */
    const char *query;                       /* as sent: from hadb__s3_query_encode; "" = none */
    const struct hadb__http_header *headers; /* those to sign: host, x-amz-date, …; names differ */
    size_t headers_len;                      /* 1..HADB_S3_SIGNED_HEADERS_MAX */
    const char *payload_hash; /* hex SHA-256 of the body, or HADB_S3_UNSIGNED_PAYLOAD */
    const char *date;         /* from hadb__s3_date, the value of x-amz-date */
    const char *region;
    const char *service;
    const char *key_id;
    const char *secret;
};

/* 20150830T123600Z of a time between the years 1970 and 9999. */
void hadb__s3_date(int64_t unix_s, char out[HADB_S3_DATE_BYTES]);
/* Appends @path with everything encoded but unreserved characters and '/'. 0 or HADB_ENOMEM. */
int hadb__s3_path_encode(const char *path, struct hadb_buf *out);
/* Appends the parameters encoded, sorted and joined with '&'. 0 or HADB_ENOMEM. */
int hadb__s3_query_encode(const struct hadb__s3_param *params, size_t len, struct hadb_buf *out);

/* Appends the canonical request, which the signature covers; for tests and for comparing with a server's. */
int hadb__s3_canonical(const struct hadb__s3_to_sign *request, struct hadb_buf *out);
/* Replaces @out by the value of the Authorization header, NUL-terminated. 0 or HADB_ENOMEM. */
int hadb__s3_sign(const struct hadb__s3_to_sign *request, struct hadb_buf *out);
#endif
