/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame of our REST servers: command line, address, TLS, token, bodies, ready line, signals, orderly end.
 *
 * Thread: the main one waits for the signal; libmicrohttpd has one per connection, so that an answer may take its time.
 * Invariants: nothing is kept here. A body that is refused, for its token, its length or want of memory, is read and
 * dropped up to a limit, so that its client sees the answer. What is asked of the store is bounded by the client's deadline,
 * counted from the moment its request began to arrive.
 * Happy path: a request begins, its body arrives, the service answers.
 * The end: a signal stops listening; what runs may finish for REST_SHUTDOWN_MS_MAX, new requests are refused with 503, held
 * ones are answered at once; then the calls that still run are cancelled. A second signal ends it at once.
 * Atomics: ending and room (relaxed: they order nothing), the cancel flags (as hadb_cancel says).
 */
#include "cli/rest_server.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cli/rest_private.h"

#define PEM_BYTES_MAX (1u << 20)
#define DROPPED_BYTES_MAX \
    ((uint64_t)128 << 20) /* of a refused body; a longer one is not waited for */

enum { OPT_LISTEN = CLI_OPT_OWN, OPT_STORE, OPT_CERT, OPT_KEY };

struct rest_server {
    const struct rest_service *service;
    const char *listen, *store_url, *token_file, *cert_file, *key_file;
    char token[CLI_TOKEN_BYTES]; /* "" = none; const once it runs, like all above */
    struct hadb_buf cert, key;   /* PEM with a NUL */
    struct hadb_cancel ending;   /* atomic: no new requests, held ones end */
    struct hadb_cancel cancel;   /* atomic: all calls end */
    uint64_t room_taken;         /* atomic */
    pthread_mutex_t mu;
    pthread_cond_t idle; /* running is 0 */
    size_t running;      /* mu: requests that have begun and are not answered */
};

/* --- state that requests share ------------------------------------------------------------------ */

static bool is_set(const struct hadb_cancel *flag)
{
    return __atomic_load_n(&flag->flag, __ATOMIC_RELAXED) != 0;
}

bool rest_server_is_ending(const struct rest_server *server)
{
    return is_set(&server->ending);
}

bool rest_server_take_room(struct rest_server *server, uint64_t bytes)
{
    if (__atomic_add_fetch(&server->room_taken, bytes, __ATOMIC_RELAXED) <= REST_ROOM_BYTES_MAX) {
        return true;
    }
    rest_server_give_room(server, bytes);
    return false;
}

void rest_server_give_room(struct rest_server *server, uint64_t bytes)
{
    __atomic_sub_fetch(&server->room_taken, bytes, __ATOMIC_RELAXED);
}

static void count_running(struct rest_server *server, int change)
{
    pthread_mutex_lock(&server->mu);
    server->running += (size_t)change;
    if (server->running == 0) {
        pthread_cond_broadcast(&server->idle);
    }
    pthread_mutex_unlock(&server->mu);
}

struct hadb_call rest_call_held(const struct rest_exchange *x, uint64_t ms)
{
    const struct hadb_env *env = hadb_env_host();
    return (struct hadb_call){.deadline_ms = env->now_ms(env->arg) + ms,
                              .cancel = &x->server->ending};
}

/* --- a request arrives -------------------------------------------------------------------------- */

static bool equal_in_constant_time(const char *a, const char *b)
{
    size_t len = strlen(b);
    unsigned differ = strlen(a) != len;
    for (size_t i = 0; i < len && a[i]; i++) {
        differ |= (unsigned char)a[i] ^ (unsigned char)b[i];
    }
    return differ == 0;
}

static bool is_allowed(const struct rest_exchange *x)
{
    const char *token = x->server->token, *given = rest_header(x, "Authorization");
    if (token[0] == '\0') {
        return true;
    }
    return given != NULL && strncasecmp(given, "Bearer ", 7) == 0 &&
           equal_in_constant_time(given + 7, token);
}

static void refuse_later(struct rest_exchange *x, unsigned status, const char *name,
                         const char *message)
{
    if (x->refused == 0) {
        x->refused = status;
        x->refused_name = name;
        x->refused_message = message;
    }
}

static void take_room(struct rest_exchange *x, uint64_t bytes)
{
    if (rest_server_take_room(x->server, bytes)) {
        x->room += bytes;
    } else {
        refuse_later(x, MHD_HTTP_SERVICE_UNAVAILABLE, "EBUSY",
                     "the server's memory for bodies is used up");
    }
}

/* The body is to have this many bytes: its memory is taken at once, and touched as it comes. */
static void expect_body(struct rest_exchange *x, uint64_t len)
{
    if (len > x->server->service->body_bytes_max) {
        refuse_later(x, MHD_HTTP_CONTENT_TOO_LARGE, "ETOOBIG", x->server->service->too_big);
        return;
    }
    take_room(x, len);
    if (x->refused == 0 && len > 0) {
        x->body.data = malloc((size_t)len + 1);
        x->body.cap = x->body.data ? (size_t)len + 1 : 0;
    }
}

static void take_body(struct rest_exchange *x, const char *data, size_t len)
{
    const struct rest_service *service = x->server->service;
    if (x->refused == 0 && x->body.len + len > service->body_bytes_max) {
        refuse_later(x, MHD_HTTP_CONTENT_TOO_LARGE, "ETOOBIG", service->too_big);
    }
    if (x->refused == 0 && x->body.len + len > x->room) { /* its length was not told */
        take_room(x, x->body.len + len - x->room);
    }
    if (x->refused == 0 && !cli_append(&x->body, data, len)) {
        refuse_later(x, MHD_HTTP_SERVICE_UNAVAILABLE, "ENOMEM", "out of memory");
    }
}

static void begin(struct rest_exchange *x, const char *path, uint64_t len)
{
    struct rest_server *server = x->server;
    const struct rest_service *service = server->service;
    const struct hadb_env *env = hadb_env_host();
    size_t base_len = strlen(service->base);
    uint64_t deadline_ms = 0;
    if (rest_server_is_ending(server)) {
        refuse_later(x, MHD_HTTP_SERVICE_UNAVAILABLE, "EUNAVAIL", "the server is shutting down");
    }
    if (!is_allowed(x)) {
        refuse_later(x, MHD_HTTP_UNAUTHORIZED, "EAUTH", "the token is missing or wrong");
    }
    if (strncmp(path, service->base, base_len) != 0 ||
        (path[base_len] != '\0' && path[base_len] != '/')) {
        refuse_later(x, MHD_HTTP_NOT_FOUND, "NOT_FOUND", service->not_found);
    }
    if (!rest_number(rest_header(x, "Hadb-Deadline-Ms"), INT64_MAX / 20, REST_DEADLINE_MS_DEFAULT,
                     &deadline_ms)) {
        refuse_later(x, MHD_HTTP_BAD_REQUEST, "EINVAL", "Hadb-Deadline-Ms is a number from 1 on");
    }
    deadline_ms = deadline_ms < HADB_DEADLINE_MS_MAX ? deadline_ms : HADB_DEADLINE_MS_MAX;
    x->call = (struct hadb_call){.deadline_ms = env->now_ms(env->arg) + deadline_ms,
                                 .cancel = &server->cancel};
    if (x->refused == 0) {
        expect_body(x, len);
    }
}

/* Of a request that begins; 0 where there is none: chunks tell as they come. The library has checked it. */
static uint64_t length_of(struct MHD_Connection *connection)
{
    const char *text = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **state)
{
    struct rest_server *server = arg;
    struct rest_exchange *x = *state;
    (void)version;
    if (x == NULL) {
        uint64_t len = length_of(connection);
        x = *state = calloc(1, sizeof *x);
        if (x == NULL) {
            return MHD_NO;
        }
        *x = (struct rest_exchange){.server = server, .connection = connection, .method = method};
        count_running(server, 1);
        begin(x, path, len);
        return x->refused != 0 && len > DROPPED_BYTES_MAX
                   ? rest_refuse(x, x->refused, x->refused_name, x->refused_message)
                   : MHD_YES;
    }
    if (*data_len > 0) {
        take_body(x, data, *data_len);
        *data_len = 0;
        return MHD_YES;
    }
    if (x->refused != 0) {
        return rest_refuse(x, x->refused, x->refused_name, x->refused_message);
    }
    x->tail = path + strlen(server->service->base);
    return server->service->answer(x);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    struct rest_exchange *x = *state;
    (void)connection, (void)code;
    if (x != NULL) {
        cli_buf_free(&x->body);
        rest_server_give_room(x->server, x->room);
        free(x);
        *state = NULL;
        count_running(arg, -1);
    }
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* As the library's own, but that %00 stays what it is: it would cut a name short, and mean another one. */
static size_t unescape(void *arg, struct MHD_Connection *connection, char *text)
{
    char *to = text;
    (void)arg, (void)connection;
    for (const char *from = text; *from;) {
        int high = from[0] == '%' ? hex_digit(from[1]) : -1;
        int low = high >= 0 ? hex_digit(from[2]) : -1;
        bool escape = low >= 0 && (high | low) != 0;
        *to++ = escape ? (char)(high << 4 | low) : *from;
        from += escape ? 3 : 1;
    }
    *to = '\0';
    return (size_t)(to - text);
}

/* --- the address -------------------------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    }
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

/* ADDR:PORT or [ADDR]:PORT, an address and no name. 0 or an exit code. */
static int read_address(const struct rest_server *server, struct addrinfo **out)
{
    char host[CLI_ADDRESS_BYTES];
    const struct cli_command *command = server->service->command;
    const char *text = server->listen, *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    bool brackets = len > 2 && text[0] == '[' && text[len - 1] == ']';
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    if (len >= sizeof host || colon == NULL || len == 0) {
        return cli_usage(command, "--listen '%s': write ADDR:PORT", text);
    }
    snprintf(host, sizeof host, "%.*s", (int)(brackets ? len - 2 : len), text + brackets);
    if (getaddrinfo(host, colon + 1, &hints, out) != 0) {
        return cli_usage(command, "--listen '%s': write ADDR:PORT, an address and a port", text);
    }
    if (!is_loopback((*out)->ai_addr) && server->token[0] == '\0') {
        return cli_fail(CLI_AUTH, "--listen %s: beyond loopback a --token-file is required", text);
    }
    if (!is_loopback((*out)->ai_addr) && server->cert_file == NULL) {
        cli_warn("the token travels in clear: give --tls-cert and --tls-key");
    }
    return 0;
}

/* Whole file with a NUL. 0 or an exit code. */
static int read_pem(const char *path, struct hadb_buf *out)
{
    FILE *in = fopen(path, "re");
    if (in == NULL) {
        return cli_fail(CLI_AUTH, "%s: it cannot be read", path);
    }
    bool ok = cli_read_all(in, PEM_BYTES_MAX, out) && cli_append(out, "", 1);
    fclose(in);
    return ok ? 0 : cli_fail(CLI_FAILED, "%s: it cannot be read, or is no PEM file", path);
}

/* --- running ------------------------------------------------------------------------------------ */

static struct MHD_Daemon *start(struct rest_server *server, const struct sockaddr *address)
{
    bool tls = server->cert_file != NULL;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
                     MHD_USE_POLL | MHD_USE_ITC |
                     (address->sa_family == AF_INET6 ? MHD_USE_IPv6 : 0) | (tls ? MHD_USE_TLS : 0);
    const struct MHD_OptionItem pem[] = {
        {tls ? MHD_OPTION_HTTPS_MEM_CERT : MHD_OPTION_END, 0, server->cert.data},
        {tls ? MHD_OPTION_HTTPS_MEM_KEY : MHD_OPTION_END, 0, server->key.data},
        {MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_SOCK_ADDR, address,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_CONNECTION_LIMIT,
        REST_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, REST_CONNECTION_IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, server->service->connection_bytes,
        MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u,
        MHD_OPTION_ARRAY, pem, MHD_OPTION_END);
}

static void wait_for_signal(const sigset_t *set)
{
    int number = 0;
    sigwait(set, &number);
    sigprocmask(SIG_UNBLOCK, set, NULL); /* a second signal ends it at once */
}

static void set(struct hadb_cancel *flag)
{
    __atomic_store_n(&flag->flag, 1, __ATOMIC_RELAXED);
}

static void stop(struct rest_server *server, struct MHD_Daemon *daemon)
{
    struct timespec until;
    set(&server->ending);
    MHD_socket listener = MHD_quiesce_daemon(daemon);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += REST_SHUTDOWN_MS_MAX / 1000;
    pthread_mutex_lock(&server->mu);
    while (server->running > 0 && pthread_cond_timedwait(&server->idle, &server->mu, &until) == 0) {
    }
    pthread_mutex_unlock(&server->mu);
    set(&server->cancel);
    MHD_stop_daemon(daemon);
    if (listener != MHD_INVALID_SOCKET) {
        close(listener);
    }
}

static int serve(struct rest_server *server, const struct sockaddr *address)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* before any thread starts */
    signal(SIGPIPE, SIG_IGN);
    cli_raise_files();
    struct hadb_error err = {0};
    if (server->service->open(server->store_url, &err) != 0) {
        return cli_fail_error(&err);
    }
    struct MHD_Daemon *daemon = start(server, address);
    if (daemon == NULL) {
        server->service->close();
        return cli_fail(CLI_FAILED, "cannot listen on %s%s", server->listen,
                        server->cert_file ? ", or the certificate and its key do not fit" : "");
    }
    const char *colon = strrchr(server->listen, ':');
    printf("ready %.*s:%u pid %ld\n", (int)(colon - server->listen), server->listen,
           (unsigned)MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port, (long)getpid());
    fflush(stdout);
    wait_for_signal(&signals);
    stop(server, daemon);
    server->service->close();
    return CLI_OK;
}

static int parse(int argc, char **argv, struct rest_server *server)
{
    const struct rest_service *service = server->service;
    const struct option options[] = {
        {"listen", required_argument, NULL, OPT_LISTEN},
        {service->store_option, required_argument, NULL, OPT_STORE},
        {"token-file", required_argument, NULL, CLI_OPT_TOKEN_FILE},
        {"tls-cert", required_argument, NULL, OPT_CERT},
        {"tls-key", required_argument, NULL, OPT_KEY},
        {0},
    };
    int option;
    while ((option = cli_option(service->command, argc, argv, options)) != -1) {
        const char **where = option == OPT_LISTEN           ? &server->listen
                             : option == OPT_STORE          ? &server->store_url
                             : option == CLI_OPT_TOKEN_FILE ? &server->token_file
                             : option == OPT_CERT           ? &server->cert_file
                             : option == OPT_KEY            ? &server->key_file
                                                            : NULL;
        if (where == NULL) {
            return CLI_USAGE;
        }
        *where = optarg;
    }
    if (optind < argc) {
        return cli_usage(service->command, "'%s' is one argument too many", argv[optind]);
    }
    if (server->store_url == NULL) {
        return cli_usage(service->command, "needs --%s URL", service->store_option);
    }
    if ((server->cert_file == NULL) != (server->key_file == NULL)) {
        return cli_usage(service->command, "--tls-cert and --tls-key go together");
    }
    return 0;
}

static void init(struct rest_server *server)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&server->mu, NULL);
}

int rest_server_run(const struct rest_service *service, int argc, char **argv)
{
    static struct rest_server server;
    struct addrinfo *address = NULL;
    server = (struct rest_server){.service = service, .listen = service->listen_default};
    init(&server);
    int r = parse(argc, argv, &server);
    r = r != 0 ? r : cli_read_token(server.token_file, server.token);
    r = r != 0 ? r : read_address(&server, &address);
    if (r == 0 && server.cert_file != NULL) {
        r = read_pem(server.cert_file, &server.cert);
        r = r != 0 ? r : read_pem(server.key_file, &server.key);
    }
    r = r != 0 ? r : serve(&server, address->ai_addr);
    if (address != NULL) {
        freeaddrinfo(address);
    }
    if (server.key.data != NULL) {
        explicit_bzero(server.key.data, server.key.len);
    }
    cli_buf_free(&server.cert);
    cli_buf_free(&server.key);
    explicit_bzero(server.token, sizeof server.token);
    return r;
}
