/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP server: owns the libmicrohttpd daemon, its place on the event loop, and the list of connections.
 *
 * Thread: the loop. libmicrohttpd has none of its own: its epoll descriptor is polled by libuv, MHD_run() does
 * all work, and its time-outs are a libuv timer.
 * Invariants: MHD_run() is called from turn() only, and never from inside itself; whoever resumes a connection
 * kicks, so that the same turn of the loop sends the answer. A second epoll descriptor watches every
 * connection for nothing but its end (edge-triggered, one system call per connection), because
 * libmicrohttpd does not look at suspended connections.
 * Happy path: readable → MHD_run() → handlers → … hadb_http_reply() → kick → prepare → MHD_run() sends.
 * Failure modes: clients that send or read too slowly are cut off by libmicrohttpd's inactivity time-out
 * and by the sweep, which wants a head within that time and a body at BODY_BYTES_PER_MS_MIN; a request line
 * so broken that libmicrohttpd drops it without a word is answered with 400 here. Clients that hold connections
 * and ask nothing lose the oldest of them when others come.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "node/http_server_private.h"
#include "node/loop_private.h"

#define BODY_DEFAULT ((size_t)65 << 20)
#define BODIES_DEFAULT ((size_t)1 << 30)
/* Of libmicrohttpd, per connection: a head, and what it keeps for each header. */
#define CONNECTION_BYTES_MAX ((size_t)HADB_HTTP_HEAD_BYTES_MAX + (32u << 10))
/* So many places, at most, are kept free: as many new connections can come in one round of libmicrohttpd, and more. */
#define CONNECTIONS_SPARE_MAX 32u
#define CONNECTIONS_PER_SPARE 8u
#define CONNECTIONS_SHARE 8u /* of the open files, when there are too few: an eighth */
#define IDLE_DEFAULT_S 60u
#define BACKLOG_MAX 1024
#define SWEEP_EVERY_MS_MAX 5000u
#define BODY_BYTES_PER_MS_MIN 16u
#define EVENTS_MAX 64
#define ROUNDS_MAX 8       /* of libmicrohttpd in one turn of the loop */
#define FLUSH_ROUNDS_MAX 4 /* at stop */

void hadb__http_kick(struct hadb_http_server *server)
{
    server->kicked = true;
}

/* The last bytes and the end of the stream may have come as one event; libmicrohttpd then stops reading
 * before the end and never hears of it. This makes a fresh event; what was received stays readable. */
void hadb__http_poke(struct hadb_http_conn *conn)
{
    shutdown(conn->fd, SHUT_RD);
}

/* ---- the loop ---- */

static void arm_timer(struct hadb_http_server *server, bool wants_time, uint64_t ms);

/* Lets libmicrohttpd and the gone callbacks run while they have something to do at once: an answer takes
 * it two or three rounds. Bounded, so that one busy client does not hold the loop. */
static void turn(struct hadb_http_server *server)
{
    HADB_ASSERT(!server->in_turn);
    MHD_UNSIGNED_LONG_LONG ms = 0;
    bool wants_time = false;
    server->in_turn = true;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        server->kicked = false;
        MHD_run(server->mhd);
        hadb__http_deliver_late(server);
        wants_time = MHD_get_timeout(server->mhd, &ms) == MHD_YES;
        if (!server->kicked && (!wants_time || ms > 0)) {
            break;
        }
    }
    server->in_turn = false;
    if (server->kicked) {
        wants_time = true;
        ms = 0;
    }
    arm_timer(server, wants_time, ms);
}

static void on_timer(uv_timer_t *timer)
{
    turn(timer->data);
}

static void arm_timer(struct hadb_http_server *server, bool wants_time, uint64_t ms)
{
    if (!wants_time) {
        uv_timer_stop(&server->timer);
        return;
    }
    /* One that is armed for earlier stays: it then fires for nothing and comes back here. */
    if (!uv_is_active((uv_handle_t *)&server->timer) || uv_timer_get_due_in(&server->timer) > ms) {
        uv_timer_start(&server->timer, on_timer, ms, 0);
    }
}

static void on_mhd_ready(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    turn(poll->data);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct hadb_http_server *server = prepare->data;
    if (server->kicked) {
        turn(server);
    }
}

static void on_watch_ready(uv_poll_t *poll, int status, int events)
{
    struct hadb_http_server *server = poll->data;
    struct epoll_event ready[EVENTS_MAX];
    (void)status;
    (void)events;
    int n = epoll_wait(server->watch_fd, ready, EVENTS_MAX, 0);
    for (int i = 0; i < n; i++) {
        struct hadb_http_conn *conn = ready[i].data.ptr;
        conn->hup = true;
        if (conn->exchange && conn->exchange->dispatched) {
            hadb__http_peer_gone(conn->exchange);
        } else {
            hadb__http_poke(conn);
        }
    }
    if (server->kicked) {
        turn(server);
    }
}

/* ---- connections ---- */

static uint64_t sweep_every_ms(const struct hadb_http_server *server)
{
    return HADB_MIN(server->idle_timeout_ms, (uint64_t)SWEEP_EVERY_MS_MAX);
}

static void expire(struct hadb_http_conn *conn)
{
    if (!conn->expired) {
        conn->expired = true;
        conn->server->expired_len++;
        shutdown(conn->fd, SHUT_RD); /* libmicrohttpd reads the end and closes */
    }
}

/* Nobody waits for an answer on it: between two requests, or before the first whole one of a client that has
 * not shown a token yet. */
static bool may_go(const struct hadb_http_conn *conn)
{
    const struct hadb_http_exchange *x = conn->exchange;
    return !conn->expired && (!x || (!conn->trusted && !x->dispatched));
}

/* Ends the oldest connection that may go, those first that never brought the token. @newest never goes. */
static void make_room(struct hadb_http_server *server, const struct hadb_http_conn *newest)
{
    struct hadb_http_conn *victim = NULL;
    for (struct hadb_http_conn *conn = server->conns; conn; conn = conn->next) {
        if (conn == newest || !may_go(conn)) {
            continue;
        }
        if (!victim || (victim->trusted && !conn->trusted) ||
            (victim->trusted == conn->trusted && conn->since_ms <= victim->since_ms)) {
            victim = conn;
        }
    }
    if (victim) {
        expire(victim);
        hadb__http_kick(server);
    }
}

static unsigned spare(const struct hadb_http_server *server)
{
    return HADB_MIN(CONNECTIONS_SPARE_MAX, server->conns_max / CONNECTIONS_PER_SPARE);
}

void hadb__http_idle(struct hadb_http_server *server)
{
    if (spare(server) > 0 && server->conns_len - server->expired_len >= server->conns_max) {
        make_room(server, NULL);
    }
}

static void sweep(void *arg)
{
    struct hadb_http_server *server = arg;
    uint64_t now = hadb_now_ms(hadb_loop_env(server->loop));
    for (struct hadb_http_conn *conn = server->conns; conn; conn = conn->next) {
        struct hadb_http_exchange *x = conn->exchange;
        uint64_t limit_ms = server->idle_timeout_ms;
        if (x) {
            if (x->dispatched || x->refused) {
                continue;
            }
            limit_ms += x->body_received / BODY_BYTES_PER_MS_MIN;
        }
        if (now > conn->since_ms + limit_ms) {
            expire(conn);
        }
    }
    hadb__http_linger_sweep(server, now);
    if (server->conns || server->lingers) {
        hadb_timer_start(&server->sweep, now + sweep_every_ms(server));
    }
}

static void conn_opened(struct hadb_http_server *server, struct MHD_Connection *mhd,
                        void **socket_context)
{
    int fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    struct hadb_http_conn *conn = hadb_calloc(1, sizeof(*conn));
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = conn};
    *socket_context = NULL;
    if (!conn || epoll_ctl(server->watch_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        hadb_free(conn);
        shutdown(fd, SHUT_RDWR); /* no memory for it: libmicrohttpd reads the end and closes */
        return;
    }
    conn->server = server;
    conn->mhd = mhd;
    conn->fd = fd;
    conn->countable = true;
    conn->since_ms = hadb_now_ms(hadb_loop_env(server->loop));
    conn->next = server->conns;
    if (conn->next) {
        conn->next->prev = conn;
    }
    server->conns = conn;
    server->conns_len++;
    *socket_context = conn;
    if (server->conns_len - server->expired_len > server->conns_max - spare(server)) {
        make_room(server, conn);
    }
    if (!hadb_timer_active(&server->sweep)) {
        hadb_timer_start(&server->sweep, conn->since_ms + sweep_every_ms(server));
    }
}

static void conn_closed(struct hadb_http_server *server, void **socket_context)
{
    struct hadb_http_conn *conn = *socket_context;
    if (!conn) {
        return;
    }
    *socket_context = NULL;
    hadb__http_answer_broken_start(conn);
    hadb__http_linger(conn);
    epoll_ctl(server->watch_fd, EPOLL_CTL_DEL, conn->fd, NULL);
    if (conn->exchange) {
        conn->exchange->conn = NULL;
    }
    if (conn->prev) {
        conn->prev->next = conn->next;
    } else {
        server->conns = conn->next;
    }
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    server->conns_len--;
    server->expired_len -= conn->expired;
    hadb_free(conn);
    hadb__http_kick(server); /* at the connection limit only another run accepts again */
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct hadb_http_server *server = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        conn_opened(server, mhd, socket_context);
    } else {
        conn_closed(server, socket_context);
    }
}

/* ---- libmicrohttpd's settings ---- */

/* Paths and queries stay as they were sent: the routes decode, segment by segment. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

HADB_PRINTF(2, 0) static void log_line(void *cls, const char *fmt, va_list args)
{
    struct hadb_http_server *server = cls;
    const struct hadb_env *env = hadb_loop_env(server->loop);
    char text[256];
    vsnprintf(text, sizeof(text), fmt, args);
    text[strcspn(text, "\n")] = '\0';
    hadb__http_mhd_refuses(server, text);
    if (env->log_level >= HADB_LOG_DEBUG) {
        hadb_log(env, HADB_LOG_DEBUG, "http", NULL, "%s", text);
    }
}

static struct MHD_Daemon *start_daemon(struct hadb_http_server *server, int listen_fd)
{
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO | MHD_USE_ERROR_LOG;
    unsigned idle_s = (unsigned)(server->idle_timeout_ms / 1000);
    /* clang-format off */
    return MHD_start_daemon(flags, 0, NULL, NULL, hadb__http_on_request, server,
        MHD_OPTION_EXTERNAL_LOGGER, log_line, server, /* first, so that it gets every line */
        MHD_OPTION_LISTEN_SOCKET, listen_fd,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES_MAX,
        MHD_OPTION_CONNECTION_LIMIT, server->conns_max,
        MHD_OPTION_CONNECTION_TIMEOUT, idle_s,
        MHD_OPTION_URI_LOG_CALLBACK, hadb__http_on_uri, server,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, hadb__http_on_completed, server,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,
        MHD_OPTION_END);
    /* clang-format on */
}

/* ---- life ---- */

static void server_free(struct hadb_http_server *server)
{
    if (server->watch_fd >= 0) {
        close(server->watch_fd);
    }
    hadb_free(server->token);
    hadb_free(server);
}

void hadb__http_handle_closed(struct hadb_http_server *server)
{
    if (--server->handles_open == 0) {
        server_free(server);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    hadb__http_handle_closed(handle->data);
}

static void close_polls(struct hadb_http_server *server)
{
    uv_close((uv_handle_t *)&server->mhd_poll, on_handle_closed);
    uv_close((uv_handle_t *)&server->watch_poll, on_handle_closed);
}

static void close_handles(struct hadb_http_server *server)
{
    uv_close((uv_handle_t *)&server->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&server->timer, on_handle_closed);
}

/* On failure nothing of the server is on the loop. */
static int open_handles(struct hadb_http_server *server, struct hadb_error *err)
{
    uv_loop_t *uv = hadb__loop_uv(server->loop);
    int mhd_fd = MHD_get_daemon_info(server->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    int r = uv_poll_init(uv, &server->mhd_poll, mhd_fd);
    HADB_ASSERT(r == 0); /* fails on descriptors that are no epoll candidates only */
    r = uv_poll_init(uv, &server->watch_poll, server->watch_fd);
    HADB_ASSERT(r == 0);
    uv_prepare_init(uv, &server->prepare);
    uv_timer_init(uv, &server->timer);
    server->mhd_poll.data = server;
    server->watch_poll.data = server;
    server->prepare.data = server;
    server->timer.data = server;
    server->handles_open += 4;
    r = hadb_timer_init(&server->sweep, server->loop, sweep, server, err);
    if (r != 0) {
        return r;
    }
    uv_poll_start(&server->mhd_poll, UV_READABLE, on_mhd_ready);
    uv_poll_start(&server->watch_poll, UV_READABLE, on_watch_ready);
    uv_prepare_start(&server->prepare, on_prepare);
    return 0;
}

static int check_options(const struct hadb_http_server_options *options,
                         struct hadb_net_address *address, struct hadb_error *err)
{
    if (!options->handler || !options->listen) {
        return hadb_fail(err, HADB_EINVAL, "an HTTP server needs an address and a handler");
    }
    int r = hadb_net_parse(options->listen, address, err);
    if (r != 0) {
        return r;
    }
    bool has_token = options->token && *options->token;
    if (!has_token && !hadb_net_is_loopback(address)) {
        return hadb_fail(err, HADB_EAUTH,
                         "refusing to listen on %.80s without a token: give one (--token-file), or "
                         "listen on 127.0.0.1",
                         options->listen);
    }
    return 0;
}

/* What the limit of open files leaves for connections. */
static unsigned connections_default(unsigned files_extra)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY) {
        return HADB_HTTP_CONNECTIONS_MAX;
    }
    rlim_t reserved = (rlim_t)HADB_HTTP_FILES_RESERVED + files_extra;
    rlim_t left = files.rlim_cur > reserved ? files.rlim_cur - reserved : 0;
    left = HADB_MAX(left, files.rlim_cur / CONNECTIONS_SHARE);
    return (unsigned)HADB_MIN(HADB_MAX(left, 1u), (rlim_t)HADB_HTTP_CONNECTIONS_MAX);
}

static struct hadb_http_server *server_new(struct hadb_loop *loop,
                                           const struct hadb_http_server_options *options)
{
    struct hadb_http_server *server = hadb_calloc(1, sizeof(*server));
    if (!server) {
        return NULL;
    }
    unsigned idle_s = options->idle_timeout_s ? options->idle_timeout_s : IDLE_DEFAULT_S;
    server->loop = loop;
    server->handler = options->handler;
    server->exempt = options->exempt;
    server->body_max = options->body_max;
    server->arg = options->arg;
    server->body_bytes_max = options->body_bytes_max ? options->body_bytes_max : BODY_DEFAULT;
    server->bodies_bytes_max =
        options->bodies_bytes_max ? options->bodies_bytes_max : BODIES_DEFAULT;
    server->idle_timeout_ms = (uint64_t)idle_s * 1000;
    server->conns_max = options->connections_max ? options->connections_max
                                                 : connections_default(options->files_extra);
    server->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    bool has_token = options->token && *options->token;
    server->token = has_token ? hadb_strdup(options->token) : NULL;
    if (server->watch_fd < 0 || (has_token && !server->token)) {
        server_free(server);
        return NULL;
    }
    return server;
}

struct start_args {
    struct hadb_loop *loop;
    const struct hadb_http_server_options *options;
    struct hadb_http_server *server;
    struct hadb_error *err;
    int r;
};

static int start_on_loop(struct start_args *args)
{
    struct hadb_net_address address;
    int listen_fd = -1;
    int r = check_options(args->options, &address, args->err);
    if (r != 0) {
        return r;
    }
    struct hadb_http_server *server = server_new(args->loop, args->options);
    if (!server) {
        return hadb_fail_nomem(args->err);
    }
    r = hadb_net_listen(&address, BACKLOG_MAX, &listen_fd, args->err);
    if (r != 0) {
        server_free(server);
        return r;
    }
    hadb_net_format(&address, server->address);
    server->mhd = start_daemon(server, listen_fd);
    if (!server->mhd) {
        close(listen_fd);
        server_free(server);
        return hadb_fail(args->err, HADB_ENOMEM, "start the HTTP server on %s",
                         args->options->listen);
    }
    r = open_handles(server, args->err);
    if (r != 0) {
        close_polls(server);
        MHD_stop_daemon(server->mhd);
        close_handles(server); /* frees the server */
        return r;
    }
    server->kicked = true; /* puts the listening socket into its epoll set */
    args->server = server;
    return 0;
}

static void start_task(void *arg)
{
    struct start_args *args = arg;
    args->r = start_on_loop(args);
}

int hadb_http_server_start(struct hadb_loop *loop, const struct hadb_http_server_options *options,
                           struct hadb_http_server **out, struct hadb_error *err)
{
    struct start_args args = {.loop = loop, .options = options, .err = err};
    if (hadb_loop_call(loop, start_task, &args) != 0) {
        return hadb_fail(err, HADB_ECANCELED, "the event loop is stopping");
    }
    if (args.r == 0) {
        *out = args.server;
    }
    return args.r;
}

const char *hadb_http_server_address(const struct hadb_http_server *server)
{
    return server->address;
}

size_t hadb_http_server_pending(const struct hadb_http_server *server)
{
    HADB_ASSERT(hadb_loop_on(server->loop));
    return server->pending_len;
}

static void quiesce_task(void *arg)
{
    struct hadb_http_server *server = arg;
    if (!server->quiesced) {
        server->quiesced = true;
        int fd = MHD_quiesce_daemon(server->mhd);
        if (fd >= 0) {
            close(fd);
        }
    }
}

void hadb_http_server_quiesce(struct hadb_http_server *server)
{
    int r = hadb_loop_call(server->loop, quiesce_task, server);
    HADB_ASSERT(r == 0); /* the loop outlives the server */
}

static void stop_task(void *arg)
{
    struct hadb_http_server *server = arg;
    HADB_ASSERT(!server->in_turn);
    quiesce_task(server);
    turn(server); /* answers given so far go out */
    server->stopping = true;
    for (struct hadb_http_conn *conn = server->conns; conn; conn = conn->next) {
        if (conn->exchange) {
            hadb__http_abandon(conn->exchange);
        }
    }
    server->in_turn = true;
    for (int i = 0; i < FLUSH_ROUNDS_MAX; i++) {
        MHD_run(server->mhd);
    }
    hadb__http_deliver_late(server);
    close_polls(
        server); /* before their descriptors are closed, and mean something else in another thread */
    MHD_stop_daemon(server->mhd);
    HADB_ASSERT(!server->conns && !server->late_head);
    hadb__http_linger_sweep(server, UINT64_MAX);
    hadb_timer_deinit(&server->sweep);
    close_handles(server);
}

void hadb_http_server_stop(struct hadb_http_server *server)
{
    if (server) {
        int r = hadb_loop_call(server->loop, stop_task, server);
        HADB_ASSERT(r == 0);
    }
}
