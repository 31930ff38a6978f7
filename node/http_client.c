/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP client: owns the curl multi handle, its sockets and timer on the event loop, and the lists of calls.
 *
 * Thread: the loop.
 * Invariants: curl is never entered from inside one of its callbacks (`in_curl`): what users start or cancel
 * there waits until curl has returned. Every accepted call gets exactly one on_done, from settle(), which
 * runs outside curl and outside the call that caused it.
 * Happy path: request → add to multi → socket readiness → curl → message DONE → on_done.
 * Failure modes: curl refuses a call, no memory for a socket: the call ends with that verdict (http_call.c).
 */
#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "node/http_client_private.h"
#include "node/loop_private.h"

#define HOST_CONNECTIONS_DEFAULT 64u
#define IDLE_CONNECTIONS_DEFAULT 128u
#define IDLE_DEFAULT_S 20u

/* A socket of curl on the loop. */
struct curl_socket {
    uv_poll_t poll;
    struct hadb_http_client *client;
    curl_socket_t fd;
};

/* ---- lists ---- */

static void list_push(struct hadb_http_call_list *list, struct hadb_http_call *call)
{
    call->next = NULL;
    call->prev = list->tail;
    if (list->tail) {
        list->tail->next = call;
    } else {
        list->head = call;
    }
    list->tail = call;
}

static void list_remove(struct hadb_http_call_list *list, struct hadb_http_call *call)
{
    if (call->prev) {
        call->prev->next = call->next;
    } else {
        list->head = call->next;
    }
    if (call->next) {
        call->next->prev = call->prev;
    } else {
        list->tail = call->prev;
    }
    call->prev = NULL;
    call->next = NULL;
}

/* ---- curl's turn ---- */

static void end_call(struct hadb_http_call *call)
{
    struct hadb_http_client *client = call->client;
    HADB_ASSERT(!client->in_curl);
    if (call->state == HADB_HTTP_CALL_ACTIVE) {
        curl_multi_remove_handle(client->multi, call->easy);
        list_remove(&client->active, call);
    } else {
        list_remove(&client->queued, call);
    }
    hadb_timer_stop(&call->deadline);
    hadb_timer_stop(&call->idle);
    call->state = HADB_HTTP_CALL_ENDED;
    list_push(&client->ended, call);
}

static void start_call(struct hadb_http_call *call)
{
    struct hadb_http_client *client = call->client;
    HADB_ASSERT(!client->in_curl && call->state == HADB_HTTP_CALL_QUEUED);
    if (call->expired || call->canceled) {
        end_call(call);
        return;
    }
    list_remove(&client->queued, call);
    call->state = HADB_HTTP_CALL_ACTIVE;
    list_push(&client->active, call);
    if (call->deadline.loop) {
        hadb_timer_start(&call->deadline, call->deadline_ms);
    }
    if (call->idle.loop) {
        hadb_timer_start(&call->idle,
                         hadb_now_ms(hadb_loop_env(client->loop)) + call->idle_timeout_ms);
    }
    CURLMcode r = curl_multi_add_handle(client->multi, call->easy);
    if (r != CURLM_OK) {
        call->curl_code = r == CURLM_OUT_OF_MEMORY ? CURLE_OUT_OF_MEMORY : CURLE_FAILED_INIT;
        end_call(call);
    }
}

static void collect_messages(struct hadb_http_client *client)
{
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(client->multi, &left)) != NULL) {
        struct hadb_http_call *call = NULL;
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        call->curl_code = message->data.result;
        curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &call->os_errno);
        end_call(call);
    }
}

static void collect_cancels(struct hadb_http_client *client)
{
    struct hadb_http_call *next;
    if (!client->cancels) {
        return;
    }
    client->cancels = false;
    for (struct hadb_http_call *call = client->active.head; call; call = next) {
        next = call->next;
        if (call->canceled || call->expired || call->idle_over || call->no_memory) {
            end_call(call);
        }
    }
}

/* Everything that had to wait until curl, and whoever called us, has returned. */
static void settle(struct hadb_http_client *client)
{
    HADB_ASSERT(!client->in_curl);
    if (client->in_settle) {
        return; /* an on_done that does more: the loop below goes on */
    }
    client->in_settle = true;
    do {
        collect_messages(client);
        collect_cancels(client);
        while (client->queued.head) {
            start_call(client->queued.head);
        }
        while (client->ended.head) {
            struct hadb_http_call *call = client->ended.head;
            list_remove(&client->ended, call);
            hadb__http_call_done(call);
        }
    } while (client->queued.head || client->cancels);
    client->in_settle = false;
}

static void on_settle(uv_timer_t *timer)
{
    settle(timer->data);
}

static void settle_soon(struct hadb_http_client *client)
{
    if (!client->in_settle && !uv_is_active((uv_handle_t *)&client->settle)) {
        uv_timer_start(&client->settle, on_settle, 0, 0);
    }
}

static void drive(struct hadb_http_client *client, curl_socket_t fd, int events)
{
    int running = 0;
    client->in_curl = true;
    curl_multi_socket_action(client->multi, fd, events, &running);
    client->in_curl = false;
    settle(client);
}

static void on_timer(uv_timer_t *timer)
{
    drive(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct hadb_http_client *client = arg;
    (void)multi;
    if (timeout_ms < 0) {
        uv_timer_stop(&client->timer);
    } else {
        uv_timer_start(&client->timer, on_timer, (uint64_t)timeout_ms, 0);
    }
    return 0;
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct curl_socket *socket = poll->data;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;
    flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
    flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
    drive(socket->client, socket->fd, flags);
}

static void on_socket_closed(uv_handle_t *handle)
{
    hadb_free(handle->data);
}

/* The call cannot be served; settle() ends it once curl has returned. */
static void fail_call(struct hadb_http_client *client, CURL *easy)
{
    struct hadb_http_call *call = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&call);
    call->no_memory = true;
    hadb__http_call_abort(client);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *assigned)
{
    struct hadb_http_client *client = arg;
    struct curl_socket *socket = assigned;
    if (what == CURL_POLL_REMOVE) {
        if (socket) {
            uv_poll_stop(&socket->poll);
            uv_close((uv_handle_t *)&socket->poll, on_socket_closed);
            curl_multi_assign(client->multi, fd, NULL);
        }
        return 0;
    }
    if (!socket) {
        socket = hadb_calloc(1, sizeof(*socket));
        if (!socket || uv_poll_init(hadb__loop_uv(client->loop), &socket->poll, fd) != 0) {
            hadb_free(socket);
            fail_call(client, easy); /* -1 would end the multi handle for good */
            return 0;
        }
        socket->poll.data = socket;
        socket->client = client;
        socket->fd = fd;
        curl_multi_assign(client->multi, fd, socket);
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    uv_poll_start(&socket->poll, events, on_socket);
    return 0;
}

void hadb__http_call_submit(struct hadb_http_call *call)
{
    struct hadb_http_client *client = call->client;
    list_push(&client->queued, call);
    if (!client->in_curl) {
        start_call(call);
        if (client->ended.head) {
            settle_soon(client); /* too late, or curl refused it */
        }
    }
}

void hadb__http_call_abort(struct hadb_http_client *client)
{
    client->cancels = true;
    if (!client->in_curl) {
        settle_soon(client);
    }
}

/* ---- life ---- */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready;

static void curl_start(void)
{
    curl_ready = curl_global_init(CURL_GLOBAL_ALL);
}

static void client_free(struct hadb_http_client *client)
{
    if (client->multi) {
        curl_multi_cleanup(client->multi);
    }
    hadb_free(client->authorization);
    hadb_free(client);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct hadb_http_client *client = handle->data;
    if (--client->handles_open == 0) {
        hadb_free(client);
    }
}

static char *bearer(const char *token)
{
    static const char prefix[] = "Authorization: Bearer ";
    size_t len = strlen(token);
    char *line = hadb_malloc(sizeof(prefix) + len);
    if (line) {
        memcpy(line, prefix, sizeof(prefix) - 1);
        memcpy(line + sizeof(prefix) - 1, token, len + 1);
    }
    return line;
}

static struct hadb_http_client *client_new(struct hadb_loop *loop,
                                           const struct hadb_http_client_options *options)
{
    struct hadb_http_client *client = hadb_calloc(1, sizeof(*client));
    if (!client) {
        return NULL;
    }
    bool has_token = options->token && *options->token;
    unsigned host_max = options->host_connections_max;
    unsigned idle_max = options->idle_connections_max;
    client->loop = loop;
    client->idle_timeout_s = options->idle_timeout_s ? options->idle_timeout_s : IDLE_DEFAULT_S;
    client->authorization = has_token ? bearer(options->token) : NULL;
    client->multi = curl_multi_init();
    if (!client->multi || (has_token && !client->authorization)) {
        client_free(client);
        return NULL;
    }
    CURLM *multi = client->multi;
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client);
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS,
                      (long)(host_max ? host_max : HOST_CONNECTIONS_DEFAULT));
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS,
                      (long)(idle_max ? idle_max : IDLE_CONNECTIONS_DEFAULT));
    return client;
}

struct start_args {
    struct hadb_loop *loop;
    const struct hadb_http_client_options *options;
    struct hadb_http_client *client;
};

static void start_task(void *arg)
{
    struct start_args *args = arg;
    struct hadb_http_client *client = client_new(args->loop, args->options);
    if (!client) {
        return;
    }
    uv_loop_t *uv = hadb__loop_uv(args->loop);
    uv_timer_init(uv, &client->timer);
    uv_timer_init(uv, &client->settle);
    client->timer.data = client;
    client->settle.data = client;
    client->handles_open = 2;
    args->client = client;
}

int hadb_http_client_start(struct hadb_loop *loop, const struct hadb_http_client_options *options,
                           struct hadb_http_client **out, struct hadb_error *err)
{
    static const struct hadb_http_client_options defaults;
    pthread_once(&curl_once, curl_start);
    if (curl_ready != CURLE_OK) {
        return hadb_fail(err, HADB_EIO, "start libcurl: %s", curl_easy_strerror(curl_ready));
    }
    struct start_args args = {.loop = loop, .options = options ? options : &defaults};
    if (hadb_loop_call(loop, start_task, &args) != 0) {
        return hadb_fail(err, HADB_ECANCELED, "the event loop is stopping");
    }
    if (!args.client) {
        return hadb_fail_nomem(err);
    }
    *out = args.client;
    return 0;
}

static void stop_task(void *arg)
{
    struct hadb_http_client *client = arg;
    HADB_ASSERT(!client->in_curl && !client->in_settle);
    client->stopping = true;
    for (struct hadb_http_call *call = client->active.head; call; call = call->next) {
        call->canceled = true;
    }
    client->cancels = true;
    settle(client);
    HADB_ASSERT(!client->active.head && !client->queued.head && !client->ended.head);
    while (client->easies_len > 0) {
        curl_easy_cleanup(client->easies[--client->easies_len]);
    }
    curl_multi_cleanup(client->multi); /* closes the connections, and with them their polls */
    hadb_free(client->authorization);
    uv_close((uv_handle_t *)&client->timer, on_handle_closed);
    uv_close((uv_handle_t *)&client->settle, on_handle_closed);
}

void hadb_http_client_stop(struct hadb_http_client *client)
{
    if (client) {
        int r = hadb_loop_call(client->loop, stop_task, client);
        HADB_ASSERT(r == 0); /* the loop outlives the client */
    }
}
