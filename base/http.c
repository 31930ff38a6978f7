/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the pool of blocking handles of stores that are reached over HTTP, with their kept connections.
 *
 * Thread: any; a handle belongs to the caller that took it from the pool (mutex), and goes back with its
 * connection open.
 * Happy path: take a handle, begin, poll until done, end, give it back. Failure modes: base/http_easy.c.
 */
#include "base/http.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/http_easy.h"
#include "base/thread.h"

struct handle {
    struct hadb__easy easy;
    CURLM *multi; /* a handle has its own, so that its connection stays with it */
    struct handle *next;
};

struct hadb__http {
    const struct hadb_env *env;
    struct hadb_mutex mu;
    struct handle *kept; /* mu; the last one used first */
    size_t kept_len;     /* mu */
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready = CURLE_FAILED_INIT;

static void curl_start(void)
{
    curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

int hadb__http_start(struct hadb_error *err)
{
    pthread_once(&curl_once, curl_start);
    return curl_ready == CURLE_OK ? 0
                                  : hadb_fail(err, HADB_EIO, "libcurl does not start: %s",
                                              curl_easy_strerror(curl_ready));
}

int hadb__http_open(const struct hadb_env *env, struct hadb__http **out, struct hadb_error *err)
{
    int r = hadb__http_start(err);
    if (r) {
        return r;
    }
    struct hadb__http *http = hadb_calloc(1, sizeof(*http));
    if (!http) {
        return hadb_fail_nomem(err);
    }
    http->env = env;
    hadb_mutex_init(&http->mu, 0);
    *out = http;
    return 0;
}

static void handle_free(struct handle *h)
{
    hadb__easy_deinit(&h->easy);
    if (h->multi) {
        curl_multi_cleanup(h->multi);
    }
    hadb_free(h);
}

void hadb__http_close(struct hadb__http *http)
{
    if (!http) {
        return;
    }
    while (http->kept) {
        struct handle *h = http->kept;
        http->kept = h->next;
        handle_free(h);
    }
    hadb_mutex_deinit(&http->mu);
    hadb_free(http);
}

static struct handle *handle_take(struct hadb__http *http)
{
    hadb_mutex_lock(&http->mu);
    struct handle *h = http->kept;
    if (h) {
        http->kept = h->next;
        http->kept_len--;
    }
    hadb_mutex_unlock(&http->mu);
    if (h) {
        return h;
    }
    h = hadb_calloc(1, sizeof(*h));
    if (!h) {
        return NULL;
    }
    h->multi = curl_multi_init();
    if (!h->multi || !hadb__easy_init(&h->easy)) {
        handle_free(h);
        return NULL;
    }
    return h;
}

static void handle_give(struct hadb__http *http, struct handle *h)
{
    hadb_mutex_lock(&http->mu);
    bool keep = http->kept_len < HADB_HTTP_KEPT_MAX;
    if (keep) {
        h->next = http->kept;
        http->kept = h;
        http->kept_len++;
    }
    hadb_mutex_unlock(&http->mu);
    if (!keep) {
        handle_free(h);
    }
}

/* --- one request -------------------------------------------------------------------------------- */

/* Runs the handle to its end. CURLE_OK also when the reason for the end is in reply->failure. */
static CURLcode run(struct handle *h, const struct hadb_env *env)
{
    int running = 1;
    if (curl_multi_add_handle(h->multi, h->easy.curl) != CURLM_OK) {
        return CURLE_OUT_OF_MEMORY;
    }
    CURLcode code = CURLE_OK;
    for (;;) {
        if (curl_multi_perform(h->multi, &running) != CURLM_OK) {
            code = CURLE_OUT_OF_MEMORY;
            break;
        }
        if (running == 0) {
            int left = 0;
            CURLMsg *message = curl_multi_info_read(h->multi, &left);
            code =
                message && message->msg == CURLMSG_DONE ? message->data.result : CURLE_GOT_NOTHING;
            break;
        }
        uint64_t wait = hadb__easy_wait_ms(&h->easy, env);
        if (wait == 0) {
            break;
        }
        if (curl_multi_poll(h->multi, NULL, 0, (int)wait, NULL) != CURLM_OK) {
            code = CURLE_OUT_OF_MEMORY;
            break;
        }
    }
    curl_multi_remove_handle(h->multi, h->easy.curl); /* unfinished: closes the connection */
    return code;
}

void hadb__http_perform(struct hadb__http *http, const struct hadb__http_request *request,
                        const struct hadb_call *call, struct hadb__http_reply *reply)
{
    struct handle *h = handle_take(http);
    if (!h) {
        reply->failure = HADB__HTTP_NO_MEMORY;
        reply->sent = false;
        snprintf(reply->text, sizeof(reply->text), "out of memory");
        return;
    }
    bool ready = hadb__easy_begin(&h->easy, http->env, request, call, reply);
    hadb__easy_end(&h->easy, ready ? run(h, http->env) : CURLE_OUT_OF_MEMORY);
    handle_give(http, h);
}

bool hadb__http_says_nothing(int status)
{
    return status < 200 || status >= 500 || status == 408 || status == 409 || status == 425 ||
           status == 429 || status == 499;
}

bool hadb__http_etag_usable(const char *etag)
{
    const char *text = strncmp(etag, "W/", 2) == 0 ? etag + 2 : etag;
    size_t len = strlen(text);
    bool quoted = text[0] == '"'; /* not all servers do */
    if (len == 0 || (quoted && (len < 3 || text[len - 1] != '"'))) {
        return false;
    }
    for (size_t i = quoted; i < len - quoted; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e || text[i] == '"' ||
            (!quoted && strchr(" ,*", text[i]))) {
            return false;
        }
    }
    return true;
}

void hadb__http_reply_deinit(struct hadb__http_reply *reply)
{
    hadb_buf_deinit(&reply->body);
}
