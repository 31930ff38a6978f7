/* SPDX-License-Identifier: Apache-2.0 */
/* Performs one HTTP request at a time per caller on a pool of kept connections (libcurl). Any thread. */
#ifndef HADB_BASE_HTTP_H
#define HADB_BASE_HTTP_H
#include "hadb/error.h"

struct hadb_call;
struct hadb_env;

#define HADB_HTTP_ERROR_BYTES_MAX 8192u    /* of the body of a refusal; the rest is dropped */
#define HADB_HTTP_DROPPED_BYTES_MAX 65536u /* then the connection is given up, the status counts */
#define HADB_HTTP_HEADERS_BYTES_MAX 65536u
#define HADB_HTTP_DIGEST_BYTES 512u
#define HADB_HTTP_KEPT_MAX 64u   /* idle connections kept */
#define HADB_HTTP_KEPT_S_MAX 15u /* and for how long: shorter than servers keep theirs */

struct hadb__http_header {
    const char *name; /* any case */
    const char *value;
};

struct hadb__http_request {
    const char *method, *url;
    const struct hadb__http_header *headers;
    size_t headers_len;
    struct hadb_slice body;
    bool writes; /* must not be sent twice: whether the first one was applied would be unknown */
    size_t reply_bytes_max;
    uint32_t connect_ms_max, idle_ms_max;
    const char *ca;         /* NULL = the system's certificates */
    const char *cert, *key; /* files of our own certificate; NULL = none */
    /* Asked after each piece of the body of a 2xx: is there enough of it? Then the request is done. May be NULL. */
    bool (*enough)(void *arg, struct hadb_slice body);
    void *enough_arg;
    bool direct; /* never through a proxy */
    bool dated;  /* the Date of a success is wanted, too */
};

enum hadb__http_failure {
    HADB__HTTP_FINE,        /* a whole reply: status, headers, body */
    HADB__HTTP_UNREACHABLE, /* no connection */
    HADB__HTTP_UNTRUSTED,   /* TLS: the certificate or the handshake */
    HADB__HTTP_CANCELED,
    HADB__HTTP_LATE,    /* the deadline of the call has passed */
    HADB__HTTP_IDLE,    /* nothing moved for idle_ms_max */
    HADB__HTTP_BROKEN,  /* the connection ended, or what came is not HTTP */
    HADB__HTTP_TOO_BIG, /* the body is over reply_bytes_max */
    HADB__HTTP_NO_MEMORY,
};

struct hadb__http_reply {
    enum hadb__http_failure failure;
    bool sent; /* the server may have seen the request */
    int status;
    char text[200]; /* of a failure */
    int64_t length; /* Content-Length; -1 = none */
    bool chunked;
    bool of_s3;                  /* it has x-amz-request-id */
    int64_t date_unix_s;         /* Date of a refusal, or if asked for; -1 = none */
    char etag[HADB_TAG_MAX + 1]; /* "" when absent, repeated, too long or not usable */
    char content_range[80];
    char region[40];                            /* x-amz-bucket-region */
    char digest[HADB_HTTP_DIGEST_BYTES];        /* Content-Digest; "" when absent or too long */
    char type[64];                              /* Content-Type */
    char refusal[24];                           /* Hadb-Error */
    struct hadb_buf body;                       /* of a status 2xx */
    char error_body[HADB_HTTP_ERROR_BYTES_MAX]; /* of any other */
    size_t error_len;
};

struct hadb__http; /* the pool */

int hadb__http_start(struct hadb_error *err); /* libcurl is ready: 0, HADB_EIO */
/* 0, HADB_ENOMEM, HADB_EIO (libcurl does not start). @env outlives it. */
int hadb__http_open(const struct hadb_env *env, struct hadb__http **out, struct hadb_error *err);
void hadb__http_close(struct hadb__http *http); /* no request is running; NULL is fine */
/* Performs it until the deadline of @call (NULL: none). @reply is replaced; its body's memory is used again. */
void hadb__http_perform(struct hadb__http *http, const struct hadb__http_request *request,
                        const struct hadb_call *call, struct hadb__http_reply *reply);
/*
 * Is a failure of libcurl (a CURLcode, the errno behind it, its text) about certificates and TLS as such, before
 * any request left? A connection that merely ends inside the handshake is not: the server may be on its way down.
 */
bool hadb__http_untrusted(int curl_code, long sys_errno, const char *text);
/*
 * Does a status leave open what became of the request? It may have been done, or may yet be: 5xx, a conflict, a
 * server or gateway that slows down or gave up (408, 425, 429; 499 where its own client did), and what is no final one.
 */
bool hadb__http_says_nothing(int status);
/* Is this one entity tag, fit to be sent back in If-Match? Neither "*" nor a list is, which fit more than one. */
bool hadb__http_etag_usable(const char *etag);
/* What to change or look at, to be put behind @text, the text of a failure; NULL = nothing is known. Static. */
const char *hadb__http_advice(enum hadb__http_failure failure, const char *text);
void hadb__http_reply_deinit(struct hadb__http_reply *reply);
#endif
