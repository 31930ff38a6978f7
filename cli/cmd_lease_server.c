/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb lease-server: the REST service of docs/lease-http.md over any lease store, in the foreground until SIGTERM
 * or SIGINT.
 *
 * Thread: the main one waits for the signal; libmicrohttpd has one per connection, so that a GET may be held back.
 * Invariants: nothing is kept here. A tag of the store becomes an ETag by escaping, and back. A request that the store
 * could not settle is a 5xx: its client calls it unknown.
 * Happy path: check the token, the path and the conditions; one call of the store; one answer.
 * Failure modes: every refusal is {"error":NAME,"message":TEXT} with the status of the table in docs/lease-http.md.
 */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"

#define BASE "/v1/lease/"
#define CONNECTIONS_MAX 1024u
#define CONNECTION_IDLE_S 120u
#define DEADLINE_MS_DEFAULT 10000u
#define WAIT_MS_MAX 60000u
#define PEM_BYTES_MAX (1u << 20)

enum { OPT_LISTEN = CLI_OPT_OWN, OPT_LEASE, OPT_CERT, OPT_KEY };

struct server {
    const char *listen, *lease_url, *token_file, *cert_file, *key_file;
    char token[CLI_TOKEN_BYTES]; /* "" = none; const once it runs, like all but stop */
    struct hadb_buf cert, key;   /* PEM with a NUL */
    struct hadb_lease lease;
    struct hadb_cancel stop; /* atomic */
};

/* One request on its way in. */
struct exchange {
    struct hadb_buf body;
    bool too_big, no_memory;
};

/* --- answers ------------------------------------------------------------------------------------ */

static enum MHD_Result send_reply(struct MHD_Connection *connection, unsigned status,
                                  struct MHD_Response *take_response)
{
    if (take_response == NULL) {
        return MHD_NO;
    }
    MHD_add_response_header(take_response, "Cache-Control", "no-store");
    enum MHD_Result r = MHD_queue_response(connection, status, take_response);
    MHD_destroy_response(take_response);
    return r;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *name,
                              const char *message)
{
    json_t *object = json_pack("{s:s, s:s}", "error", name, "message", message);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    struct MHD_Response *response =
        text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (response != NULL) {
        MHD_add_response_header(response, "Content-Type", "application/json");
        if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
            MHD_add_response_header(response, "Allow", "GET, HEAD, PUT");
        } else if (status == MHD_HTTP_UNAUTHORIZED) {
            MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
        }
    } else {
        free(text);
    }
    return send_reply(connection, status, response);
}

static enum MHD_Result refuse_error(struct MHD_Connection *connection, const struct hadb_error *err)
{
    unsigned status = err->code == HADB_EINVAL      ? MHD_HTTP_BAD_REQUEST
                      : err->code == HADB_ETOOBIG   ? MHD_HTTP_CONTENT_TOO_LARGE
                      : err->code == HADB_EUNAVAIL  ? MHD_HTTP_SERVICE_UNAVAILABLE
                      : err->code == HADB_ETIMEDOUT ? MHD_HTTP_GATEWAY_TIMEOUT
                                                    : MHD_HTTP_BAD_GATEWAY;
    return refuse(connection, status, hadb_code_name(err->code),
                  err->message[0] ? err->message : hadb_code_text(err->code));
}

/* --- tags --------------------------------------------------------------------------------------- */

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
}

/* The tag in quotes, with everything unusual as %XX. False when it does not fit a tag of its client's. */
static bool put_etag(const struct hadb_tag *tag, char out[HADB_TAG_MAX + 1])
{
    size_t at = 0;
    out[at++] = '"';
    for (const char *c = tag->s; *c; c++) {
        if (at + 5 > HADB_TAG_MAX) {
            return false;
        }
        at += (size_t)snprintf(out + at, 4, is_plain(*c) ? "%c" : "%%%02X", (unsigned char)*c);
    }
    out[at++] = '"';
    out[at] = '\0';
    return true;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The reverse; false when @etag is none of ours. */
static bool read_etag(const char *etag, struct hadb_tag *out)
{
    size_t len = strlen(etag), used = 0;
    if (len < 3 || len > HADB_TAG_MAX || etag[0] != '"' || etag[len - 1] != '"') {
        return false;
    }
    *out = (struct hadb_tag){0};
    for (size_t i = 1; i < len - 1; i++) {
        int byte = is_plain(etag[i]) ? etag[i] : 0;
        if (etag[i] == '%' && i + 2 < len - 1 && hex_digit(etag[i + 1]) >= 0 &&
            hex_digit(etag[i + 2]) >= 0) {
            byte = hex_digit(etag[i + 1]) << 4 | hex_digit(etag[i + 2]);
            i += 2;
        }
        if (byte == 0) {
            return false;
        }
        out->s[used++] = (char)byte;
    }
    return true;
}

static enum MHD_Result send_record(struct MHD_Connection *connection, unsigned status,
                                   const struct hadb_buf *record, const struct hadb_tag *tag)
{
    char etag[HADB_TAG_MAX + 1];
    if (!put_etag(tag, etag)) {
        return refuse(connection, MHD_HTTP_BAD_GATEWAY, "EIO", "a tag of the store is too long");
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(
        record ? record->len : 0, record && record->len ? record->data : (void *)"",
        MHD_RESPMEM_MUST_COPY);
    if (response != NULL) {
        MHD_add_response_header(response, "ETag", etag);
        MHD_add_response_header(response, "Content-Type", "application/octet-stream");
    }
    return send_reply(connection, status, response);
}

/* --- requests ----------------------------------------------------------------------------------- */

static bool equal_in_constant_time(const char *a, const char *b)
{
    size_t len = strlen(b);
    unsigned differ = strlen(a) != len;
    for (size_t i = 0; i < len && a[i]; i++) {
        differ |= (unsigned char)a[i] ^ (unsigned char)b[i];
    }
    return differ == 0;
}

static bool is_allowed(const struct server *server, struct MHD_Connection *connection)
{
    const char *given = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
    if (server->token[0] == '\0') {
        return true;
    }
    return given != NULL && strncasecmp(given, "Bearer ", 7) == 0 &&
           equal_in_constant_time(given + 7, server->token);
}

/* The number in @text; false unless it is from 1 to @max. NULL is @fallback. */
static bool read_ms(const char *text, uint64_t max, uint64_t fallback, uint64_t *out)
{
    uint64_t value = 0;
    *out = fallback;
    if (text == NULL) {
        return true;
    }
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9' || value > max) {
            return false;
        }
        value = value * 10 + (uint64_t)(*c - '0');
    }
    *out = value;
    return value >= 1 && value <= max;
}

static struct hadb_call call_within(const struct server *server, uint64_t ms)
{
    const struct hadb_env *env = hadb_env_host();
    return (struct hadb_call){.deadline_ms = env->now_ms(env->arg) + ms, .cancel = &server->stop};
}

/* Holds a GET back until the record is another one than @seen, or the time is over. */
static void hold(struct server *server, const char *key, const struct hadb_tag *seen, uint64_t ms)
{
    struct hadb_call call = call_within(server, ms);
    (void)hadb_lease_watch(&server->lease, &call, key, seen, NULL); /* reading tells what it is */
}

static enum MHD_Result get(struct server *server, struct MHD_Connection *connection,
                           const char *key, uint64_t deadline_ms)
{
    const char *wait = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "wait_ms");
    const char *etag = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "If-None-Match");
    struct hadb_error err = {0};
    struct hadb_buf record = {0};
    struct hadb_tag tag = {0}, seen = {0};
    uint64_t wait_ms = 0;
    if (!read_ms(wait, WAIT_MS_MAX, 0, &wait_ms)) {
        return refuse(connection, MHD_HTTP_BAD_REQUEST, "EINVAL", "wait_ms is 1 to 60000");
    }
    bool known = etag != NULL && read_etag(etag, &seen);
    if (wait_ms > 0 && (known || etag == NULL)) {
        hold(server, key, known ? &seen : NULL, wait_ms);
    }
    struct hadb_call call = call_within(server, deadline_ms);
    int r = hadb_lease_read(&server->lease, &call, key, &record, &tag, &err);
    enum MHD_Result done =
        r == HADB_ABSENT ? refuse(connection, MHD_HTTP_NOT_FOUND, "ABSENT", "there is no record")
        : r != 0         ? refuse_error(connection, &err)
        : known && strcmp(tag.s, seen.s) == 0
            ? send_record(connection, MHD_HTTP_NOT_MODIFIED, NULL, &tag)
            : send_record(connection, MHD_HTTP_OK, &record, &tag);
    hadb_buf_deinit(&record);
    return done;
}

static enum MHD_Result put(struct server *server, struct MHD_Connection *connection,
                           const char *key, const struct exchange *exchange, uint64_t deadline_ms)
{
    const char *match = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "If-Match");
    const char *none = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "If-None-Match");
    struct hadb_error err = {0};
    struct hadb_tag expected, tag;
    if (exchange->too_big) {
        return refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, "ETOOBIG",
                      "a record has 65536 bytes at most");
    }
    if (exchange->no_memory) {
        return refuse(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "ENOMEM", "out of memory");
    }
    if ((match == NULL) == (none == NULL)) {
        return refuse(connection, MHD_HTTP_PRECONDITION_REQUIRED, "EINVAL",
                      "a write needs If-Match: \"TAG\", or If-None-Match: *");
    }
    if (none != NULL && strcmp(none, "*") != 0) {
        return refuse(connection, MHD_HTTP_BAD_REQUEST, "EINVAL", "If-None-Match of a write is *");
    }
    if (match != NULL && !read_etag(match, &expected)) {
        return refuse(connection, MHD_HTTP_PRECONDITION_FAILED, "LOST", "no record has this tag");
    }
    struct hadb_call call = call_within(server, deadline_ms);
    struct hadb_slice record = {.data = exchange->body.data, .len = exchange->body.len};
    int r = hadb_lease_write_if_match(&server->lease, &call, key, record, match ? &expected : NULL,
                                      &tag, &err);
    if (r == HADB_CAS_LOST) {
        return refuse(connection, MHD_HTTP_PRECONDITION_FAILED, "LOST",
                      "the record is another one by now");
    }
    return r ? refuse_error(connection, &err)
             : send_record(connection, match ? MHD_HTTP_OK : MHD_HTTP_CREATED, NULL, &tag);
}

static enum MHD_Result answer(struct server *server, struct MHD_Connection *connection,
                              const char *path, const char *method, const struct exchange *exchange)
{
    bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    const char *text = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Hadb-Deadline-Ms");
    uint64_t deadline_ms = 0;
    if (!is_allowed(server, connection)) {
        return refuse(connection, MHD_HTTP_UNAUTHORIZED, "EAUTH", "the token is missing or wrong");
    }
    if (strncmp(path, BASE, sizeof BASE - 1) != 0) {
        return refuse(connection, MHD_HTTP_NOT_FOUND, "NOT_FOUND", "records are at " BASE "KEY");
    }
    if (!reads && strcmp(method, "PUT") != 0) {
        return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "EINVAL", "use GET, HEAD or PUT");
    }
    if (!read_ms(text, HADB_DEADLINE_MS_MAX, DEADLINE_MS_DEFAULT, &deadline_ms)) {
        return refuse(connection, MHD_HTTP_BAD_REQUEST, "EINVAL",
                      "Hadb-Deadline-Ms is 1 to 600000");
    }
    const char *key = path + sizeof BASE - 1;
    return reads ? get(server, connection, key, deadline_ms)
                 : put(server, connection, key, exchange, deadline_ms);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **state)
{
    struct exchange *exchange = *state;
    (void)version;
    if (exchange == NULL) {
        *state = calloc(1, sizeof *exchange);
        return *state ? MHD_YES : MHD_NO;
    }
    if (*data_len > 0) {
        exchange->too_big =
            exchange->too_big || exchange->body.len + *data_len > HADB_LEASE_RECORD_BYTES_MAX;
        if (!exchange->too_big && !exchange->no_memory) {
            exchange->no_memory = !cli_append(&exchange->body, data, *data_len);
        }
        *data_len = 0;
        return MHD_YES;
    }
    return answer(arg, connection, path, method, exchange);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    struct exchange *exchange = *state;
    (void)arg, (void)connection, (void)code;
    if (exchange != NULL) {
        cli_buf_free(&exchange->body);
        free(exchange);
        *state = NULL;
    }
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
static int read_address(const struct server *server, struct addrinfo **out)
{
    char host[CLI_ADDRESS_BYTES];
    const char *text = server->listen, *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    bool brackets = len > 2 && text[0] == '[' && text[len - 1] == ']';
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    if (len >= sizeof host || colon == NULL || len == 0) {
        return cli_usage(&cli_lease_server, "--listen '%s': write ADDR:PORT", text);
    }
    snprintf(host, sizeof host, "%.*s", (int)(brackets ? len - 2 : len), text + brackets);
    if (getaddrinfo(host, colon + 1, &hints, out) != 0) {
        return cli_usage(&cli_lease_server, "--listen '%s': write ADDR:PORT, an address and a port",
                         text);
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

static struct MHD_Daemon *start(struct server *server, const struct sockaddr *address)
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
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_CONNECTION_LIMIT,
        CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_IDLE_S,
        MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_ARRAY, pem, MHD_OPTION_END);
}

static void wait_for_signal(const sigset_t *set)
{
    int number = 0;
    sigwait(set, &number);
    sigprocmask(SIG_UNBLOCK, set, NULL); /* a second signal ends it at once */
}

static int serve(struct server *server, const struct sockaddr *address)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL); /* before any thread starts */
    signal(SIGPIPE, SIG_IGN);
    struct hadb_error err = {0};
    if (hadb_lease_open(server->lease_url, NULL, &server->lease, &err) != 0) {
        return cli_fail_error(&err);
    }
    struct MHD_Daemon *daemon = start(server, address);
    if (daemon == NULL) {
        hadb_lease_close(&server->lease);
        return cli_fail(CLI_FAILED, "cannot listen on %s%s", server->listen,
                        server->cert_file ? ", or the certificate and its key do not fit" : "");
    }
    const char *colon = strrchr(server->listen, ':');
    printf("ready %.*s:%u pid %ld\n", (int)(colon - server->listen), server->listen,
           (unsigned)MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port, (long)getpid());
    fflush(stdout);
    wait_for_signal(&set);
    __atomic_store_n(&server->stop.flag, 1, __ATOMIC_RELAXED);
    MHD_stop_daemon(daemon);
    hadb_lease_close(&server->lease);
    return CLI_OK;
}

static int parse(int argc, char **argv, struct server *server)
{
    static const struct option options[] = {
        {"listen", required_argument, NULL, OPT_LISTEN},
        {"lease", required_argument, NULL, OPT_LEASE},
        {"token-file", required_argument, NULL, CLI_OPT_TOKEN_FILE},
        {"tls-cert", required_argument, NULL, OPT_CERT},
        {"tls-key", required_argument, NULL, OPT_KEY},
        {0},
    };
    int option;
    while ((option = cli_option(&cli_lease_server, argc, argv, options)) != -1) {
        const char **where = option == OPT_LISTEN           ? &server->listen
                             : option == OPT_LEASE          ? &server->lease_url
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
        return cli_usage(&cli_lease_server, "'%s' is one argument too many", argv[optind]);
    }
    if (server->lease_url == NULL) {
        return cli_usage(&cli_lease_server, "needs --lease URL");
    }
    if ((server->cert_file == NULL) != (server->key_file == NULL)) {
        return cli_usage(&cli_lease_server, "--tls-cert and --tls-key go together");
    }
    return 0;
}

static int run_lease_server(int argc, char **argv)
{
    static struct server server = {.listen = "127.0.0.1:4290"};
    struct addrinfo *address = NULL;
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

const struct cli_command cli_lease_server = {
    .name = "lease-server",
    .usage = "--lease URL [--listen ADDR:PORT] [options]",
    .summary = "serve a lease store to nodes over HTTP",
    .help =
        "Nodes then take --lease http://ADDR:PORT (docs/lease-http.md). Prints 'ready ADDR:PORT "
        "pid N'\nonce it answers; SIGTERM ends it.\n\n"
        "  --lease URL         the store behind it: file:///dir, s3://…, redis://… and so on;\n"
        "                      mem: forgets everything when the server ends\n"
        "  --listen ADDR:PORT  default 127.0.0.1:4290; port 0 picks one\n"
        "  --token-file FILE   bearer token of its clients (or HADB_TOKEN_FILE); required "
        "beyond loopback\n"
        "  --tls-cert FILE     serve HTTPS with this certificate (PEM, with its chain)\n"
        "  --tls-key FILE      and this key\n",
    .run = run_lease_server,
};
