/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what libcurl is told about one request, and what is made of its end: options, callbacks, verdict.
 *
 * Thread: whoever owns the handle; no I/O of its own, somebody else drives the multi handle.
 * Invariants: `sent` is set by curl's pre-request callback, the last moment before the first byte leaves. When
 * a kept connection turns out dead curl would repeat the request on a fresh one; for a write that callback
 * then refuses, since nobody knows what became of the first. No redirect is followed, TLS is verified.
 * After a write was sent nothing is allocated here, so its outcome is never lost to a lack of memory.
 * Happy path: begin, curl runs, end. Failure modes: enum hadb__http_failure.
 */
#include "base/http_easy.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/url.h"

#define CANCEL_STEP_MS 20u /* how late a cancel may be noticed */
#define POLL_MS_MAX 1000u
#define HUGE_BYTES_MIN ((size_t)4 << 20)

/* --- inside curl -------------------------------------------------------------------------------- */

static int on_prereq(void *arg, char *ip, char *local, int port, int local_port)
{
    (void)ip, (void)local, (void)port, (void)local_port;
    struct hadb__easy *h = arg;
    if (h->reply->sent && h->request->writes) {
        h->repeat_refused = true;
        return CURL_PREREQFUNC_ABORT;
    }
    h->reply->sent = true;
    return CURL_PREREQFUNC_OK;
}

/* Is @line the header @name? Then its value, without blanks around it, goes to *value. */
static bool header_is(struct hadb_slice line, const char *name, struct hadb_slice *value)
{
    const char *text = line.data;
    size_t at = strlen(name);
    if (line.len <= at || text[at] != ':' || strncasecmp(text, name, at) != 0) {
        return false;
    }
    at++;
    size_t end = line.len;
    while (at < end && (text[at] == ' ' || text[at] == '\t')) {
        at++;
    }
    while (end > at && strchr(" \t\r\n", text[end - 1])) {
        end--;
    }
    *value = hadb_slice(text + at, end - at);
    return true;
}

/* Copies printable text that fits; false when it does not. */
static bool copy_text(struct hadb_slice value, char *out, size_t size)
{
    const char *text = value.data;
    if (value.len >= size) {
        return false;
    }
    for (size_t i = 0; i < value.len; i++) {
        if (text[i] < 0x21 || text[i] > 0x7e) {
            if (text[i] != ' ') {
                return false;
            }
        }
    }
    memcpy(out, text, value.len);
    out[value.len] = '\0';
    return true;
}

/* A reply begins: what an interim one (100 Continue) said is forgotten. */
static void begin_reply(struct hadb__easy *h, struct hadb_slice line)
{
    struct hadb__http_reply *reply = h->reply;
    const char *text = line.data;
    size_t at = 0;
    int status = 0;
    while (at < line.len && text[at] != ' ') {
        at++;
    }
    for (at++; at < line.len && text[at] >= '0' && text[at] <= '9' && status < 1000; at++) {
        status = status * 10 + (text[at] - '0');
    }
    reply->status = status;
    reply->length = -1;
    reply->date_unix_s = -1;
    reply->chunked = reply->of_s3 = false;
    reply->etag[0] = reply->content_range[0] = reply->region[0] = '\0';
    reply->digest[0] = reply->type[0] = reply->refusal[0] = '\0';
    reply->error_len = 0;
    h->etag_seen = h->headers_done = false;
}

static void read_etag(struct hadb__easy *h, struct hadb_slice value)
{
    /* Repeated, or not fit to be sent back: as good as none. */
    if (h->etag_seen || !copy_text(value, h->reply->etag, sizeof(h->reply->etag)) ||
        !hadb__http_etag_usable(h->reply->etag)) {
        h->reply->etag[0] = '\0';
    }
    h->etag_seen = true;
}

static void read_header(struct hadb__easy *h, struct hadb_slice line)
{
    struct hadb__http_reply *reply = h->reply;
    struct hadb_slice value;
    char text[64];
    uint64_t number = 0;
    if (header_is(line, "etag", &value)) {
        read_etag(h, value);
    } else if (header_is(line, "content-length", &value)) {
        if (copy_text(value, text, sizeof(text)) && hadb_parse_u64(text, 0, INT64_MAX, &number)) {
            reply->length = (int64_t)number;
        }
    } else if (header_is(line, "transfer-encoding", &value)) {
        reply->chunked = value.len == 7 && strncasecmp(value.data, "chunked", 7) == 0;
    } else if (header_is(line, "content-range", &value)) {
        (void)copy_text(value, reply->content_range, sizeof(reply->content_range));
    } else if (header_is(line, "x-amz-request-id", &value)) {
        reply->of_s3 = true;
    } else if (header_is(line, "x-amz-bucket-region", &value)) {
        (void)copy_text(value, reply->region, sizeof(reply->region));
    } else if (header_is(line, "content-digest", &value)) {
        (void)copy_text(value, reply->digest, sizeof(reply->digest));
    } else if (header_is(line, "content-type", &value)) {
        (void)copy_text(value, reply->type, sizeof(reply->type));
    } else if (header_is(line, "hadb-error", &value)) {
        (void)copy_text(value, reply->refusal, sizeof(reply->refusal));
    } else if (header_is(line, "date", &value)) {
        /* Of a refusal in any case: there a clock may be learnt from it. */
        if ((reply->status >= 300 || h->request->dated) && copy_text(value, text, sizeof(text))) {
            reply->date_unix_s = (int64_t)curl_getdate(text, NULL);
        }
    }
}

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
    struct hadb__easy *h = arg;
    struct hadb_slice line = hadb_slice(data, size * count);
    h->headers_bytes += line.len;
    if (h->headers_bytes > HADB_HTTP_HEADERS_BYTES_MAX) {
        h->reply->failure = HADB__HTTP_TOO_BIG;
        return 0;
    }
    if (line.len >= 5 && strncasecmp(data, "HTTP/", 5) == 0) {
        begin_reply(h, line);
    } else if (line.len <= 2 && (data[0] == '\r' || data[0] == '\n')) {
        h->headers_done = true;
    } else {
        read_header(h, line);
    }
    return line.len;
}

static bool is_success(const struct hadb__http_reply *reply)
{
    return reply->status >= 200 && reply->status <= 299;
}

/*
 * Room for the whole body on the word of Content-Length, which is at most reply_bytes_max: address space alone, until
 * bytes come. Large pages make filling it several times cheaper. Whether there is room, the append tells.
 */
static void reserve_body(struct hadb_buf *body, size_t len)
{
    if (hadb_buf_reserve(body, len) == 0 && len >= HUGE_BYTES_MIN) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = (size_t)(-(uintptr_t)body->data % page);
        (void)madvise(body->data + skip, body->cap - skip - (body->cap - skip) % page,
                      MADV_HUGEPAGE);
    }
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct hadb__easy *h = arg;
    struct hadb__http_reply *reply = h->reply;
    size_t len = size * count;
    if (!is_success(reply)) {
        size_t room = HADB_MIN(len, sizeof(reply->error_body) - reply->error_len);
        memcpy(reply->error_body + reply->error_len, data, room);
        reply->error_len += room;
        h->dropped_bytes += len - room;
        h->enough = h->dropped_bytes > HADB_HTTP_DROPPED_BYTES_MAX;
        return h->enough ? 0 : len;
    }
    size_t max = h->request->reply_bytes_max;
    if (len > max - reply->body.len || (reply->length > 0 && (uint64_t)reply->length > max)) {
        reply->failure = HADB__HTTP_TOO_BIG;
        return 0;
    }
    if (reply->body.len == 0 && reply->length > 0) {
        reserve_body(&reply->body, (size_t)reply->length);
    }
    if (hadb_buf_append(&reply->body, data, len)) {
        reply->failure = HADB__HTTP_NO_MEMORY;
        return 0;
    }
    const struct hadb__http_request *request = h->request;
    h->enough =
        request->enough && request->enough(request->enough_arg, hadb_buf_slice(&reply->body));
    return h->enough ? 0 : len;
}

/* --- one request -------------------------------------------------------------------------------- */

static bool add_line(struct hadb__easy *h, const char *line)
{
    struct curl_slist *lines = curl_slist_append(h->lines, line);
    h->lines = lines ? lines : h->lines;
    return lines != NULL;
}

static bool set_headers(struct hadb__easy *h)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf line = {0};
    bool ok = add_line(h, "Expect:"); /* never wait for 100 Continue */
    bool typed = false;
    for (size_t i = 0; i < h->request->headers_len && ok; i++) {
        const struct hadb__http_header *header = &h->request->headers[i];
        typed = typed || strcasecmp(header->name, "content-type") == 0;
        hadb_buf_clear(&line);
        ok = hadb_buf_printf(&line, "%s: %s", header->name, header->value) == 0 &&
             hadb_buf_cstr(&line) && add_line(h, hadb_buf_cstr(&line));
    }
    ok = ok && (typed || add_line(h, "Content-Type:")); /* else curl calls a body a form */
    curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, h->lines);
    return ok;
}

static void set_method(struct hadb__easy *h)
{
    const struct hadb__http_request *request = h->request;
    if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(h->curl, CURLOPT_NOBODY, 1L);
        return;
    }
    if (strcmp(request->method, "GET") == 0) {
        curl_easy_setopt(h->curl, CURLOPT_HTTPGET, 1L);
        return;
    }
    /* A body in memory as of a POST: it leaves in one piece with the headers when it is small. */
    curl_easy_setopt(h->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(h->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    curl_easy_setopt(h->curl, CURLOPT_POSTFIELDS, request->body.len ? request->body.data : "");
    curl_easy_setopt(h->curl, CURLOPT_CUSTOMREQUEST, request->method);
}

static void set_connection(CURL *easy, const struct hadb__http_request *request)
{
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)HADB_HTTP_KEPT_S_MAX);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)request->connect_ms_max);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 131072L);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 524288L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    /* A resumed session shows no certificate: one that has ended, or was replaced, would never be noticed. */
    curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    if (request->direct) {
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    }
    if (request->ca) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca);
    }
    if (request->cert) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, request->cert);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, request->key);
    }
}

static bool set_up(struct hadb__easy *h)
{
    CURL *easy = h->curl;
    set_connection(easy, h->request);
    set_method(h);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, h->text);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_prereq);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, h);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, h);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, h);
    return set_headers(h) && curl_easy_setopt(easy, CURLOPT_URL, h->request->url) == CURLE_OK;
}

/* When did anything last move? A number that grows with every byte, either way. */
static int64_t bytes_moved(CURL *easy)
{
    curl_off_t up = 0, down = 0;
    long headers = 0;
    curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &up);
    curl_easy_getinfo(easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
    curl_easy_getinfo(easy, CURLINFO_HEADER_SIZE, &headers);
    return (int64_t)up + (int64_t)down + headers;
}

uint64_t hadb__easy_wait_ms(struct hadb__easy *h, const struct hadb_env *env)
{
    const struct hadb_call *call = h->call;
    uint64_t now = hadb_now_ms(env), left = hadb_call_left_ms(env, call);
    int64_t moved = bytes_moved(h->curl);
    if (moved != h->moved_bytes) {
        h->moved_bytes = moved;
        h->moved_ms = now;
    }
    uint64_t idle_ms = now - h->moved_ms;
    /* While it connects, curl's own limit for that counts. */
    uint64_t idle_max = h->request->idle_ms_max + (h->reply->sent ? 0 : h->request->connect_ms_max);
    if (hadb_call_cancelled(call)) {
        h->reply->failure = HADB__HTTP_CANCELED;
    } else if (left == 0) {
        h->reply->failure = HADB__HTTP_LATE;
    } else if (idle_ms >= idle_max) {
        h->reply->failure = HADB__HTTP_IDLE;
    } else {
        uint64_t wait = HADB_MIN(left, idle_max - idle_ms);
        return HADB_MIN(wait, call && call->cancel ? CANCEL_STEP_MS : POLL_MS_MAX);
    }
    return 0;
}

bool hadb__http_untrusted(int curl_code, long sys_errno, const char *text)
{
    switch (curl_code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return true;
    case CURLE_SSL_CONNECT_ERROR: /* also what a reset inside the handshake is called */
        return sys_errno == 0 && strstr(text, "error:") && !strstr(text, "unexpected eof");
    default:
        return false;
    }
}

static bool is_untrusted(const struct hadb__easy *h, CURLcode code)
{
    long sys_errno = 0;
    curl_easy_getinfo(h->curl, CURLINFO_OS_ERRNO, &sys_errno);
    return !h->reply->sent && hadb__http_untrusted((int)code, sys_errno, h->text);
}

static enum hadb__http_failure failure_of(const struct hadb__easy *h, CURLcode code)
{
    if (code == CURLE_WRITE_ERROR && h->enough) {
        return HADB__HTTP_FINE;
    }
    switch (code) {
    case CURLE_OK:
        /* curl takes a connection that ends inside the headers for the end of an empty answer. */
        return h->headers_done && h->reply->status >= 200 ? HADB__HTTP_FINE : HADB__HTTP_BROKEN;
    case CURLE_OUT_OF_MEMORY:
        return HADB__HTTP_NO_MEMORY;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return HADB__HTTP_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT: /* only the limit for connecting is curl's */
        return HADB__HTTP_UNREACHABLE;
    default:
        return is_untrusted(h, code) ? HADB__HTTP_UNTRUSTED : HADB__HTTP_BROKEN;
    }
}

static const char *failure_text(const struct hadb__easy *h, CURLcode code)
{
    switch (h->reply->failure) {
    case HADB__HTTP_CANCELED:
        return "cancelled";
    case HADB__HTTP_LATE:
        return "the deadline has passed";
    case HADB__HTTP_IDLE:
        return "no byte moved for too long";
    case HADB__HTTP_TOO_BIG:
        return "the reply is too big";
    case HADB__HTTP_NO_MEMORY:
        return "out of memory";
    default:
        if (h->repeat_refused) {
            return "a kept connection broke after the request was sent";
        }
        if (code == CURLE_OK) {
            return "the connection ended inside the headers of the reply";
        }
        return h->text[0] ? h->text : curl_easy_strerror(code);
    }
}

bool hadb__easy_init(struct hadb__easy *h)
{
    *h = (struct hadb__easy){.curl = curl_easy_init()};
    return h->curl != NULL;
}

void hadb__easy_deinit(struct hadb__easy *h)
{
    if (h->curl) {
        curl_easy_cleanup(h->curl);
    }
    *h = (struct hadb__easy){0};
}

bool hadb__easy_begin(struct hadb__easy *h, const struct hadb_env *env,
                      const struct hadb__http_request *request, const struct hadb_call *call,
                      struct hadb__http_reply *reply)
{
    struct hadb_buf body = reply->body;
    memset(reply, 0, offsetof(struct hadb__http_reply, error_body));
    hadb_buf_clear(&body);
    reply->body = body;
    reply->error_len = 0;
    reply->length = reply->date_unix_s = -1;
    h->request = request;
    h->call = call;
    h->reply = reply;
    h->moved_ms = hadb_now_ms(env);
    return set_up(h);
}

void hadb__easy_end(struct hadb__easy *h, CURLcode code)
{
    struct hadb__http_reply *reply = h->reply;
    if (reply->failure == HADB__HTTP_FINE) {
        reply->failure = failure_of(h, code);
    }
    if (reply->failure != HADB__HTTP_FINE) {
        snprintf(reply->text, sizeof(reply->text), "%.199s", failure_text(h, code));
    }
    curl_slist_free_all(h->lines);
    *h = (struct hadb__easy){.curl = h->curl};
    curl_easy_reset(h->curl);
}
