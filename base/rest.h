/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of our REST services (docs/lease-http.md, docs/storage-http.md): where the service is, requests with
 * credentials and a deadline, and what its refusals mean. Any thread; constant after open but for the pool of connections.
 */
#ifndef HADB_BASE_REST_H
#define HADB_BASE_REST_H
#include "base/http.h"
#include "base/place.h"

/* What services are told at most, also without a deadline. */
#define HADB_REST_DEADLINE_MS_MAX 600000u
#define HADB_REST_HEADERS_MAX 8u
#define HADB_REST_WRITE_REPLY_BYTES_MAX 4096u /* room that is made before a write leaves */

struct hadb__rest_kind {
    const char *component;    /* of log lines */
    const char *service;      /* in messages: "lease service" */
    const char *base;         /* path where the URL has none */
    const char *const *known; /* parameters of the URL; NULL-terminated */
};

struct hadb__rest {
    const struct hadb_env *env;         /* const after init, like all below */
    const struct hadb__rest_kind *kind; /* static */
    struct hadb__net_place place;
    char *base;          /* begins with a slash, does not end in one; percent-encoded */
    char *authorization; /* value of the header; NULL = none */
    struct hadb__http *http;
};

/* "http(s)://[user:password@|token@]host[:port][/base]". HADB_EINVAL, HADB_EIO, HADB_EAUTH, HADB_ENOMEM; then deinit. */
int hadb__rest_open(const struct hadb_url *url, const struct hadb_env *env,
                    const struct hadb__rest_kind *kind, struct hadb__rest *out,
                    struct hadb_error *err);
void hadb__rest_deinit(struct hadb__rest *rest);

/* One request. The caller sets method, body, writes, reply_bytes_max of @http; it stays where it is once prepared. */
struct hadb__rest_request {
    struct hadb__http_request http;
    struct hadb_buf url; /* NUL-terminated */
    char deadline[24];
    struct hadb__http_header headers[HADB_REST_HEADERS_MAX];
};
/* Adds address (@tail stands behind the base), credentials and deadline. 0 or HADB_ENOMEM. */
int hadb__rest_prepare(const struct hadb__rest *rest, const struct hadb_call *call,
                       const char *tail, struct hadb__rest_request *request,
                       struct hadb_error *err);
/* Borrowed, until the request is done. */
void hadb__rest_header(struct hadb__rest_request *request, const char *name, const char *value);
void hadb__rest_request_deinit(struct hadb__rest_request *request);

/* What a refusal says, {"error":NAME,"message":TEXT} or Hadb-Error: NAME; "" where it says nothing. */
struct hadb__rest_said {
    char name[24];
    char text[160];
};
void hadb__rest_said(const struct hadb__http_reply *reply, struct hadb__rest_said *out);
/* The service's own 404: the thing is absent. Without its words it is a gateway that lost its way. */
bool hadb__rest_says_absent(const struct hadb__http_reply *reply);
/* The failure that a status outside of 2xx means, where it is no outcome of the request. */
int hadb__rest_refused(const struct hadb__rest *rest, const struct hadb__http_reply *reply,
                       bool writes, struct hadb_error *err);
/* A 2xx that is none: HADB_ETIMEDOUT of a write, else HADB_EIO. */
int hadb__rest_garbled(const struct hadb__http_reply *reply, bool writes, const char *what,
                       struct hadb_error *err);
/* May @etag be sent back as a condition? One strong tag in quotes, without blanks. */
bool hadb__rest_tag_is_strong(const char *etag);
/* Puts service, place and what was done before the message. */
int hadb__rest_wrap(const struct hadb__rest *rest, const char *what, int r, struct hadb_error *err);
#endif
