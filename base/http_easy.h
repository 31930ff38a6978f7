/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request inside libcurl, for whoever drives it: base/http.c (one at a time, blocking) and
 * storage/http_engine.c (many on one thread). Belongs to one thread at a time.
 */
#ifndef HADB_BASE_HTTP_EASY_H
#define HADB_BASE_HTTP_EASY_H
#include <curl/curl.h>

#include "base/http.h"

/* A handle of libcurl; between begin and end it belongs to one request. Zero = none. */
struct hadb__easy {
    CURL *curl;
    /* Of the running request: */
    const struct hadb__http_request *request;
    const struct hadb_call *call;
    struct hadb__http_reply *reply;
    struct curl_slist *lines;
    size_t headers_bytes;
    size_t dropped_bytes; /* of the body of a refusal */
    bool enough;          /* it goes on, but what was read of it will do */
    bool etag_seen;
    bool headers_done;
    bool repeat_refused;
    uint64_t moved_ms; /* when the last byte moved */
    int64_t moved_bytes;
    char text[CURL_ERROR_SIZE];
};

bool hadb__easy_init(struct hadb__easy *h); /* false: out of memory */
void hadb__easy_deinit(struct hadb__easy *h);
/* Tells curl what to do; @reply is replaced. All that is passed stays until end. false: out of memory, end follows. */
bool hadb__easy_begin(struct hadb__easy *h, const struct hadb_env *env,
                      const struct hadb__http_request *request, const struct hadb_call *call,
                      struct hadb__http_reply *reply);
/* How long may curl wait now? 0 when the request must end; then the reason is in the reply. */
uint64_t hadb__easy_wait_ms(struct hadb__easy *h, const struct hadb_env *env);
/* curl is done with it (@code), or it was taken out of its multi handle: fills in the verdict. */
void hadb__easy_end(struct hadb__easy *h, CURLcode code);
#endif
