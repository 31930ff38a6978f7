/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP request: setting the curl handle up, curl's callbacks while it runs, and the verdict at its end.
 *
 * Thread: the loop.
 * Invariants: `sent` is set by curl's pre-request callback, the last moment before the first byte goes out;
 * when curl wants to repeat a request on a fresh connection because a kept one turned out dead, that
 * callback runs a second time and refuses, unless the method changes nothing.
 * Failure modes: see classify(): what is evidence that nobody listens, what may have been executed, what
 * says nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "node/http_client_private.h"
#include "node/net.h"

#define REPLY_DEFAULT ((size_t)65 << 20)
#define CONNECT_MS_MAX 10000u
#define HEADERS_BYTES_MAX ((size_t)64 << 10)
#define RECEIVE_BYTES 65536L

/* ---- results ---- */

static enum hadb_http_failure classify(const struct hadb_http_call *call)
{
    if (call->canceled) {
        return HADB_HTTP_CANCELED;
    }
    if (call->idle_over || call->expired) {
        return HADB_HTTP_TIMED_OUT;
    }
    if (call->too_big) {
        return HADB_HTTP_TOO_BIG;
    }
    if (call->no_memory) {
        return HADB_HTTP_BROKEN;
    }
    if (call->repeat_refused) {
        return HADB_HTTP_RESET;
    }
    switch (call->curl_code) {
    case CURLE_OK:
        /* curl takes a connection that ends inside the headers for the end of an empty answer. */
        return call->opened || call->on_checked ? HADB_HTTP_NO_FAILURE : HADB_HTTP_RESET;
    case CURLE_COULDNT_CONNECT:
        return call->os_errno == ECONNREFUSED ? HADB_HTTP_REFUSED : HADB_HTTP_UNREACHABLE;
    case CURLE_COULDNT_RESOLVE_HOST:
        return HADB_HTTP_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT:
        return HADB_HTTP_TIMED_OUT;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
        return HADB_HTTP_RESET;
    default:
        return HADB_HTTP_BROKEN;
    }
}

static int result_code(const struct hadb_http_call *call, enum hadb_http_failure failure)
{
    switch (failure) {
    case HADB_HTTP_NO_FAILURE:
        return 0;
    case HADB_HTTP_CANCELED:
        return HADB_ECANCELED;
    case HADB_HTTP_TOO_BIG:
        return HADB_ETOOBIG;
    case HADB_HTTP_TIMED_OUT:
        return call->sent ? HADB_ETIMEDOUT : HADB_EUNAVAIL;
    case HADB_HTTP_BROKEN:
        if (call->no_memory || call->curl_code == CURLE_OUT_OF_MEMORY) {
            return HADB_ENOMEM;
        }
        return call->sent ? HADB_EPROTO : HADB_EINVAL;
    default:
        return call->sent ? HADB_EIO : HADB_EUNAVAIL;
    }
}

static const char *result_text(const struct hadb_http_call *call, enum hadb_http_failure failure)
{
    switch (failure) {
    case HADB_HTTP_NO_FAILURE:
        return "";
    case HADB_HTTP_CANCELED:
        return "cancelled";
    case HADB_HTTP_TOO_BIG:
        return "the answer is too big";
    default:
        if (call->expired) {
            return "the deadline has passed";
        }
        if (call->idle_over) {
            return "nothing arrived for too long";
        }
        if (call->repeat_refused) {
            return "a kept connection broke after the request was sent";
        }
        if (call->curl_code == CURLE_OK) {
            return "the connection broke inside the headers of the answer";
        }
        return call->text[0] ? call->text : curl_easy_strerror(call->curl_code);
    }
}

static void call_free(struct hadb_http_call *call)
{
    struct hadb_http_client *client = call->client;
    hadb_timer_deinit(&call->deadline);
    hadb_timer_deinit(&call->idle);
    if (call->easy && client->easies_len < HADB_HTTP_EASY_KEPT_MAX && !client->stopping) {
        curl_easy_reset(call->easy);
        client->easies[client->easies_len++] = call->easy;
    } else if (call->easy) {
        curl_easy_cleanup(call->easy);
    }
    curl_slist_free_all(call->headers);
    hadb_buf_deinit(&call->body_copy);
    hadb_buf_deinit(&call->reply);
    hadb_buf_deinit(&call->reply_headers);
    hadb_free(call);
}

void hadb__http_call_done(struct hadb_http_call *call)
{
    enum hadb_http_failure failure = classify(call);
    if (call->on_checked) {
        call->on_checked(call->arg, failure);
    } else {
        struct hadb_http_result result = {
            .code = result_code(call, failure),
            .failure = failure,
            .sent = call->sent,
            .status = call->status,
            .body = &call->reply,
            .call = call,
            .message = result_text(call, failure),
        };
        call->on_done(call->arg, &result);
    }
    call_free(call);
}

/* ---- a call's callbacks, all inside curl ---- */

static int on_prereq(void *arg, char *ip, char *local_ip, int port, int local_port)
{
    struct hadb_http_call *call = arg;
    (void)ip;
    (void)local_ip;
    (void)port;
    (void)local_port;
    if (call->sent && !call->repeatable) {
        call->repeat_refused = true;
        return CURL_PREREQFUNC_ABORT;
    }
    call->sent = true;
    return CURL_PREREQFUNC_OK;
}

static bool keep_header(struct hadb_http_call *call, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    if (!colon || memchr(line, '\0', len)) {
        return true; /* nothing to look up */
    }
    const char *value = colon + 1;
    const char *end = line + len;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) {
        end--;
    }
    if (call->reply_headers.len + len > HEADERS_BYTES_MAX) {
        call->too_big = true;
        return false;
    }
    if (hadb_buf_reserve(&call->reply_headers, len + 2) != 0) { /* whole pairs only */
        call->no_memory = true;
        return false;
    }
    hadb_buf_append(&call->reply_headers, line, (size_t)(colon - line));
    hadb_buf_append(&call->reply_headers, "", 1);
    hadb_buf_append(&call->reply_headers, value, (size_t)(end - value));
    hadb_buf_append(&call->reply_headers, "", 1);
    return true;
}

static size_t on_header(char *line, size_t size, size_t len, void *arg)
{
    struct hadb_http_call *call = arg;
    len *= size;
    if (call->canceled) {
        return 0;
    }
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        hadb_buf_clear(&call->reply_headers); /* a new answer, for example after 100 Continue */
        return len;
    }
    if (len > 2 || (len > 0 && *line != '\r' && *line != '\n')) {
        return keep_header(call, line, len) ? len : 0;
    }
    long status = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && !call->opened) {
        call->opened = true;
        call->status = (unsigned)status;
        if (call->on_open) {
            call->on_open(call->arg, call->status);
        }
    }
    return len;
}

static size_t on_body(char *data, size_t size, size_t len, void *arg)
{
    struct hadb_http_call *call = arg;
    len *= size;
    if (call->canceled) {
        return 0;
    }
    if (call->idle.loop) {
        hadb_timer_start(&call->idle,
                         hadb_now_ms(hadb_loop_env(call->client->loop)) + call->idle_timeout_ms);
    }
    if (call->on_data && call->status == 200) {
        call->on_data(call->arg, hadb_slice(data, len));
        return call->canceled ? 0 : len;
    }
    if (len > call->reply_bytes_max - call->reply.len) {
        call->too_big = true;
        return 0;
    }
    if (hadb_buf_append(&call->reply, data, len) != 0) {
        call->no_memory = true;
        return 0;
    }
    return len;
}

static void on_deadline(void *arg)
{
    struct hadb_http_call *call = arg;
    if (call->state != HADB_HTTP_CALL_ENDED) {
        call->expired = true;
        hadb__http_call_abort(call->client);
    }
}

static void on_idle_over(void *arg)
{
    struct hadb_http_call *call = arg;
    if (call->state != HADB_HTTP_CALL_ENDED) {
        call->idle_over = true;
        hadb__http_call_abort(call->client);
    }
}

/* ---- setting a call up ---- */

static bool add_header(struct hadb_http_call *call, const char *line)
{
    struct curl_slist *list = curl_slist_append(call->headers, line);
    if (list) {
        call->headers = list;
    }
    return list != NULL;
}

static int build_headers(struct hadb_http_call *call, const struct hadb_http_call_options *options,
                         struct hadb_error *err)
{
    bool typed = false;
    bool ok = add_header(call, "Expect:");
    struct hadb_buf line = {0};
    for (size_t i = 0; i < options->headers_len && ok; i++) {
        const struct hadb_http_header *h = &options->headers[i];
        if (strpbrk(h->name, "\r\n:") || strpbrk(h->value, "\r\n")) {
            hadb_buf_deinit(&line);
            return hadb_fail(err, HADB_EINVAL, "line break in the request header %.40s", h->name);
        }
        typed |= strcasecmp(h->name, "Content-Type") == 0;
        hadb_buf_clear(&line);
        int r = *h->value ? hadb_buf_printf(&line, "%s: %s", h->name, h->value)
                          : hadb_buf_printf(&line, "%s;", h->name);
        const char *text = r == 0 ? hadb_buf_cstr(&line) : NULL;
        ok = text && add_header(call, text);
    }
    hadb_buf_deinit(&line);
    if (ok && !typed) {
        ok = add_header(call, "Content-Type:"); /* curl would claim that it is a form */
    }
    if (ok && call->client->authorization) {
        ok = add_header(call, call->client->authorization);
    }
    return ok ? 0 : hadb_fail_nomem(err);
}

static void set_method(CURL *easy, const char *method, struct hadb_slice body)
{
    bool post = strcmp(method, "POST") == 0;
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return;
    }
    if (body.len == 0 && !post && strcmp(method, "PUT") != 0) {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    } else {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.len ? body.data : "");
    }
    if (strcmp(method, "GET") != 0 && !post) {
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method); /* copied by curl */
    } else if (post || body.len == 0) {
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
    } else {
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "GET"); /* GET with a body */
    }
}

static void set_common(struct hadb_http_call *call)
{
    CURL *easy = call->easy;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, (char *)call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->text);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* never joins a resolver thread on the loop */
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)call->client->idle_timeout_s);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
}

static uint64_t connect_ms(uint32_t wanted_ms, uint64_t left_ms)
{
    uint64_t ms = wanted_ms ? wanted_ms : CONNECT_MS_MAX;
    return left_ms ? HADB_MIN(ms, left_ms) : ms;
}

static int set_up(struct hadb_http_call *call, const struct hadb_http_call_options *options,
                  uint64_t left_ms, struct hadb_error *err)
{
    CURL *easy = call->easy;
    struct hadb_slice body = options->body;
    if (options->body_copy) {
        if (hadb_buf_append(&call->body_copy, body.data, body.len) != 0) {
            return hadb_fail_nomem(err);
        }
        body = hadb_buf_slice(&call->body_copy);
    }
    int r = build_headers(call, options, err);
    if (r != 0) {
        return r;
    }
    set_common(call);
    set_method(easy, call->method, body);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_prereq);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, call);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)connect_ms(options->connect_timeout_ms, left_ms));
    if (curl_easy_setopt(easy, CURLOPT_URL, options->url) != CURLE_OK) {
        return hadb_fail_nomem(err); /* or absurdly long; copied by curl */
    }
    struct hadb_loop *loop = call->client->loop;
    if (options->deadline_ms) {
        call->deadline_ms = options->deadline_ms;
        r = hadb_timer_init(&call->deadline, loop, on_deadline, call, err);
    }
    if (r == 0 && options->idle_timeout_ms) {
        call->idle_timeout_ms = options->idle_timeout_ms;
        r = hadb_timer_init(&call->idle, loop, on_idle_over, call, err);
    }
    return r;
}

static struct hadb_http_call *call_new(struct hadb_http_client *client)
{
    struct hadb_http_call *call = hadb_calloc(1, sizeof(*call));
    if (!call) {
        return NULL;
    }
    call->client = client;
    call->easy = client->easies_len ? client->easies[--client->easies_len] : curl_easy_init();
    if (!call->easy) {
        hadb_free(call);
        return NULL;
    }
    return call;
}

int hadb_http_request(struct hadb_http_client *client, const struct hadb_http_call_options *options,
                      struct hadb_http_call **out, struct hadb_error *err)
{
    HADB_ASSERT(hadb_loop_on(client->loop));
    if (!options->method || !options->url || !options->on_done || client->stopping ||
        strlen(options->method) > HADB_HTTP_METHOD_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "an HTTP request needs a method, a URL and on_done");
    }
    uint64_t now = hadb_now_ms(hadb_loop_env(client->loop));
    bool expired = options->deadline_ms != 0 && options->deadline_ms <= now;
    uint64_t left_ms = options->deadline_ms && !expired ? options->deadline_ms - now : 0;
    struct hadb_http_call *call = call_new(client);
    if (!call) {
        return hadb_fail_nomem(err);
    }
    snprintf(call->method, sizeof(call->method), "%s", options->method);
    call->repeatable = strcmp(call->method, "GET") == 0 || strcmp(call->method, "HEAD") == 0;
    call->on_data = options->on_data;
    call->on_open = options->on_open;
    call->on_done = options->on_done;
    call->arg = options->arg;
    call->reply_bytes_max = options->reply_bytes_max ? options->reply_bytes_max : REPLY_DEFAULT;
    int r = set_up(call, options, HADB_MIN(left_ms, (uint64_t)INT32_MAX), err);
    if (r != 0) {
        call_free(call);
        return r;
    }
    call->expired = expired;
    hadb__http_call_submit(call);
    if (out) {
        *out = call;
    }
    return 0;
}

void hadb_http_cancel(struct hadb_http_call *call)
{
    struct hadb_http_client *client = call->client;
    HADB_ASSERT(hadb_loop_on(client->loop));
    if (call->state == HADB_HTTP_CALL_ENDED || call->canceled) {
        return;
    }
    call->canceled = true;
    hadb__http_call_abort(client);
}

const char *hadb_http_result_header(const struct hadb_http_result *result, const char *name)
{
    const struct hadb_buf *headers = &result->call->reply_headers;
    const char *p = (const char *)headers->data;
    const char *end = headers->len ? p + headers->len : p; /* no memory yet: nothing to add to */
    while (p < end) {
        const char *value = p + strlen(p) + 1;
        if (strcasecmp(p, name) == 0) {
            return value;
        }
        p = value + strlen(value) + 1;
    }
    return NULL;
}

int hadb_http_connect_check(struct hadb_http_client *client, const char *address,
                            uint32_t timeout_ms,
                            void (*done)(void *arg, enum hadb_http_failure failure), void *arg,
                            struct hadb_error *err)
{
    HADB_ASSERT(hadb_loop_on(client->loop) && done);
    struct hadb_net_address parsed;
    char url[HADB_NET_TEXT_BYTES + 16];
    char text[HADB_NET_TEXT_BYTES];
    int r = hadb_net_parse(address, &parsed, err);
    if (r != 0) {
        return r;
    }
    struct hadb_http_call *call = client->stopping ? NULL : call_new(client);
    if (!call) {
        return hadb_fail_nomem(err);
    }
    hadb_net_format(&parsed, text);
    snprintf(url, sizeof(url), "http://%s/", text);
    call->on_checked = done;
    call->arg = arg;
    set_common(call);
    curl_easy_setopt(call->easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(call->easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(call->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms(timeout_ms, 0));
    curl_easy_setopt(call->easy, CURLOPT_URL, url);
    hadb__http_call_submit(call);
    return 0;
}
