/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the HTTP client share: http_client.c (curl on the event loop), http_call.c (one request).
 * Loop thread only.
 */
#ifndef HADB_NODE_HTTP_CLIENT_PRIVATE_H
#define HADB_NODE_HTTP_CLIENT_PRIVATE_H
#include <curl/curl.h>
#include <uv.h>

#include "node/http_client.h"

#define HADB_HTTP_METHOD_BYTES_MAX 15u
#define HADB_HTTP_EASY_KEPT_MAX 64u

enum hadb_http_call_state {
    HADB_HTTP_CALL_QUEUED, /* client->queued: waits until curl has returned */
    HADB_HTTP_CALL_ACTIVE, /* in the multi handle */
    HADB_HTTP_CALL_ENDED,  /* client->ended: on_done is due */
};

struct hadb_http_call {
    struct hadb_http_client *client;
    CURL *easy;
    struct curl_slist *headers;
    enum hadb_http_call_state state;
    struct hadb_http_call *prev, *next; /* list of its state */
    void (*on_data)(void *arg, struct hadb_slice data);
    void (*on_open)(void *arg, unsigned status);
    void (*on_done)(void *arg, const struct hadb_http_result *result);
    void (*on_checked)(void *arg, enum hadb_http_failure failure); /* instead: a connect check */
    void *arg;
    struct hadb_timer
        deadline; /* ours, because curl's does not run while a call waits for a connection */
    struct hadb_timer idle; /* either is initialised when it is wanted */
    uint64_t deadline_ms;
    uint32_t idle_timeout_ms;
    size_t reply_bytes_max;
    struct hadb_buf body_copy;
    struct hadb_buf reply;
    struct hadb_buf reply_headers; /* name NUL value NUL … */
    char method[HADB_HTTP_METHOD_BYTES_MAX + 1];
    bool repeatable; /* GET and HEAD change nothing */
    bool sent;
    bool repeat_refused;
    bool canceled;
    bool expired; /* the deadline has passed */
    bool idle_over;
    bool too_big;
    bool no_memory;
    bool opened;
    unsigned status;
    CURLcode curl_code;
    long os_errno;
    char text[CURL_ERROR_SIZE];
};

struct hadb_http_call_list {
    struct hadb_http_call *head, *tail;
};

struct hadb_http_client {
    struct hadb_loop *loop;
    CURLM *multi;
    char *authorization; /* "Authorization: Bearer …" or NULL */
    unsigned idle_timeout_s;
    uv_timer_t timer;  /* curl's */
    uv_timer_t settle; /* things to do once the caller has returned */
    unsigned handles_open;
    struct hadb_http_call_list queued, active, ended;
    CURL *easies[HADB_HTTP_EASY_KEPT_MAX]; /* for reuse */
    size_t easies_len;
    bool in_curl;
    bool in_settle;
    bool cancels; /* some active call has been cancelled */
    bool stopping;
};

/* http_client.c */
void hadb__http_call_submit(struct hadb_http_call *call);    /* on_done will be called */
void hadb__http_call_abort(struct hadb_http_client *client); /* some active call is to be ended */

/* http_call.c */
void hadb__http_call_done(struct hadb_http_call *call); /* reports and frees */
#endif
