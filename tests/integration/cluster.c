/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test clusters. Owns folders, nodes and children of one test.
 *
 * Thread: the test's. Waiting is polling with a bound, never a fixed sleep.
 */
#include "tests/integration/cluster.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "tests/support/async_storage.h"
#include "tests/support/support.h"

static unsigned clusters; /* a store name for each */

uint64_t tc_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void tc_sleep_ms(uint64_t ms)
{
    struct timespec ts = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&ts, NULL);
}

void tc_init(struct tc *tc, bool mem)
{
    *tc = (struct tc){.ttl_ms = 1000, .db_options = HADB_DB_OPTIONS_INIT};
    test_tmp_make(tc->dir);
    if (mem) {
        snprintf(tc->store, sizeof tc->store, "mem:tc-%d-%u", (int)getpid(), ++clusters);
        snprintf(tc->lease, sizeof tc->lease, "%s", tc->store);
    } else {
        snprintf(tc->store, sizeof tc->store, "file://%s/store", tc->dir);
        snprintf(tc->lease, sizeof tc->lease, "file://%s/lease", tc->dir);
    }
}

void tc_deinit(struct tc *tc)
{
    for (unsigned i = 0; i < TC_NODES_MAX; i++) {
        tc_close(tc, i, 0);
        if (tc->nodes[i].pid > 0) {
            tc_signal(tc, i, SIGKILL);
        }
    }
    test_tmp_remove(tc->dir);
}

int tc_setup(void **state)
{
    tc_init(*state, true);
    return 0;
}

int tc_setup_files(void **state)
{
    tc_init(*state, false);
    return 0;
}

int tc_teardown(void **state)
{
    tc_deinit(*state);
    return 0;
}

static int open_node(struct tc *tc, unsigned i, struct hadb_error *err)
{
    char name[16], dir[HADB_PATH_BYTES_MAX + 16];
    snprintf(name, sizeof name, "n%u", i);
    snprintf(dir, sizeof dir, "%s/%s", tc->dir, name);
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    options.name = name;
    options.data_dir = dir;
    struct hadb_storage storage = {0};
    options.storage = &storage;
    options.lease_url = tc->lease;
    options.listen = "127.0.0.1:0";
    options.token = tc->token;
    options.ttl_ms = tc->ttl_ms;
    options.env = tc->env;
    options.on_event = tc->on_event;
    options.event_arg = tc->event_arg;
    int r = hadb_storage_open(tc->store, tc->env, &storage, err);
    if (r == 0) {
        test_async_storage_if_asked(&storage);
        r = hadb_node_open(&options, &tc->nodes[i].node, err);
        hadb_storage_close(&storage); /* unless the node has taken it */
    }
    if (r == 0) {
        snprintf(tc->nodes[i].address, sizeof tc->nodes[i].address, "%s",
                 hadb_node_address(tc->nodes[i].node));
        r = hadb_db_open(tc->nodes[i].node, TC_DB, &tc->db_options, &tc->nodes[i].db, err);
    }
    return r;
}

void tc_open(struct tc *tc, unsigned i)
{
    struct hadb_error err = {0};
    int r = open_node(tc, i, &err);
    if (r < 0) {
        fail_msg("node %u: %s", i, err.message);
    }
}

void tc_close(struct tc *tc, unsigned i, uint32_t deadline_ms)
{
    hadb_node_close(tc->nodes[i].node, deadline_ms);
    tc->nodes[i].node = NULL;
    tc->nodes[i].db = NULL;
}

void tc_ready(struct tc *tc, unsigned i)
{
    struct hadb_error err = {0};
    if (hadb_db_wait_ready(tc->nodes[i].db, TC_WAIT_MS, &err) != 0) {
        fail_msg("node %u is not ready: %s", i, err.message);
    }
}

void tc_start(struct tc *tc, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        tc_open(tc, i);
        tc_ready(tc, i);
    }
    assert_int_equal(hadb_db_role(tc->nodes[0].db), HADB_ROLE_LEADER);
}

/* ---- children ---- */

static void child(struct tc *tc, unsigned i, int pipe_fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct hadb_error err = {0};
    if (open_node(tc, i, &err) < 0) {
        fprintf(stderr, "node %u: %s\n", i, err.message);
        _exit(1);
    }
    ssize_t n = write(pipe_fd, tc->nodes[i].address, sizeof tc->nodes[i].address);
    for (;;) {
        pause();
    }
    _exit(n < 0);
}

void tc_fork(struct tc *tc, unsigned i)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        child(tc, i, fds[1]);
    }
    close(fds[1]);
    ssize_t n = read(fds[0], tc->nodes[i].address, sizeof tc->nodes[i].address);
    close(fds[0]);
    if (n != (ssize_t)sizeof tc->nodes[i].address) {
        fail_msg("node %u did not start", i);
    }
    tc->nodes[i].pid = pid;
}

void tc_signal(struct tc *tc, unsigned i, int sig)
{
    kill(tc->nodes[i].pid, sig);
    if (sig == SIGKILL) {
        waitpid(tc->nodes[i].pid, NULL, 0);
        tc->nodes[i].pid = 0;
        tc->nodes[i].address[0] = '\0';
    }
}

/* ---- questions ---- */

static bool lives(const struct tc *tc, unsigned i)
{
    return tc->nodes[i].node || tc->nodes[i].pid > 0;
}

static char *status_of(struct tc *tc, unsigned i)
{
    struct tc_reply reply;
    char auth[600] = "";
    if (tc->token) {
        snprintf(auth, sizeof auth, "Authorization: Bearer %s\r\n", tc->token);
    }
    int status = tc_http(tc->nodes[i].address, "GET", "/v1/status", auth, NULL, 0, &reply);
    char *body = status == 200 ? strdup(reply.body) : NULL;
    tc_reply_deinit(&reply);
    return body;
}

void tc_status(struct tc *tc, unsigned i, const char *field, char *out, size_t out_bytes)
{
    char *body = status_of(tc, i);
    char name[64];
    snprintf(out, out_bytes, "%s", "");
    snprintf(name, sizeof name, "\"%s\":", field);
    char *at = body ? strstr(strstr(body, "\"databases\""), name) : NULL;
    if (at) {
        at += strlen(name);
        at += *at == '"';
        size_t len = strcspn(at, "\",}");
        snprintf(out, out_bytes, "%.*s", (int)len, at);
    }
    free(body);
}

unsigned tc_leader(struct tc *tc, unsigned not )
{
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_now_ms() < end;) {
        for (unsigned i = 0; i < TC_NODES_MAX; i++) {
            char role[32];
            if (i == not || !lives(tc, i)) {
                continue;
            }
            tc_status(tc, i, "role", role, sizeof role);
            if (strcmp(role, "leader") == 0) {
                return i;
            }
        }
        tc_sleep_ms(2);
    }
    fail_msg("no leader");
    return 0;
}

uint64_t tc_metric(struct tc *tc, unsigned i, const char *name)
{
    struct hadb_buf text = {0};
    char *end, needle[80];
    uint64_t value = 0;
    bool found = false;
    assert_int_equal(hadb_node_metrics(tc->nodes[i].node, &text, NULL), 0);
    snprintf(needle, sizeof needle, "%s ", name);
    assert_non_null(hadb_buf_cstr(&text));
    for (char *line = (char *)text.data; line && *line; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        if (strncmp(line, needle, strlen(needle)) == 0) {
            value = strtoull(line + strlen(needle), NULL, 10);
            found = true;
        }
    }
    hadb_buf_deinit(&text);
    if (!found) {
        fail_msg("no counter %s", name);
    }
    return value;
}

void tc_wait_txid(struct tc *tc, unsigned i, uint64_t txid)
{
    char text[32] = "";
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_now_ms() < end;) {
        tc_status(tc, i, "applied_txid", text, sizeof text);
        if (strtoull(text, NULL, 10) >= txid) {
            return;
        }
        tc_sleep_ms(2);
    }
    fail_msg("node %u stays at transaction %s", i, text);
}

/* ---- calls ---- */

struct hadb_kv_result tc_put(struct tc *tc, unsigned i, const char *key, const char *value)
{
    struct hadb_kv_result result;
    struct hadb_error err = {0};
    int r = hadb_kv_put(tc->nodes[i].db, hadb_slice_str(key), hadb_slice_str(value), NULL, &result,
                        &err);
    if (r != 0) {
        fail_msg("put %s through node %u: %d %s", key, i, r, err.message);
    }
    return result;
}

const char *tc_get(struct tc *tc, unsigned i, const char *key, enum hadb_read_level level)
{
    static char text[4096];
    struct hadb_buf value = {0};
    struct hadb_error err = {0};
    struct hadb_kv_options options = {.read = level};
    int r = hadb_kv_get(tc->nodes[i].db, hadb_slice_str(key), &options, &value, NULL, &err);
    if (r < 0) {
        fail_msg("get %s at node %u: %s", key, i, err.message);
    }
    snprintf(text, sizeof text, "%.*s", r == 0 ? (int)value.len : 0, (const char *)value.data);
    hadb_buf_deinit(&value);
    return text;
}

/* ---- HTTP ---- */

static int dial(const char *address)
{
    const char *colon = strrchr(address, ':');
    if (!colon) {
        return -1;
    }
    struct sockaddr_in sin = {.sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                              .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct timeval patience = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&sin, sizeof sin) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* False when the peer closed: it may have answered already. */
static bool send_all(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static void receive(int fd, struct tc_reply *reply)
{
    struct hadb_buf all = {0};
    char chunk[65536];
    ssize_t n;
    while ((n = recv(fd, chunk, sizeof chunk, 0)) > 0) {
        assert_int_equal(hadb_buf_append(&all, chunk, (size_t)n), 0);
    }
    close(fd);
    *reply = (struct tc_reply){0};
    if (all.len == 0 || !hadb_buf_cstr(&all)) {
        hadb_buf_deinit(&all);
        return;
    }
    char *text = (char *)all.data;
    char *end = strstr(text, "\r\n\r\n");
    size_t head_len = end ? (size_t)(end - text) + 2 : all.len;
    reply->head = strndup(text, head_len);
    reply->body_len = end ? all.len - head_len - 2 : 0;
    reply->body = calloc(1, reply->body_len + 1);
    if (end) {
        memcpy(reply->body, end + 4, reply->body_len);
    }
    sscanf(text, "HTTP/1.1 %d", &reply->status);
    hadb_buf_deinit(&all);
}

int tc_begin(const char *address, const char *method, const char *path, const char *headers,
             const void *body, size_t body_len)
{
    int fd = dial(address);
    if (fd < 0) {
        return -1;
    }
    struct hadb_buf request = {0};
    hadb_buf_append_str(&request, method);
    hadb_buf_append_str(&request, " ");
    hadb_buf_append_str(&request, path);
    hadb_buf_printf(&request,
                    " HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n",
                    body_len, headers ? headers : "");
    if (send_all(fd, request.data, request.len)) {
        send_all(fd, body, body_len);
    }
    hadb_buf_deinit(&request);
    return fd;
}

int tc_end(int fd, struct tc_reply *reply)
{
    *reply = (struct tc_reply){0};
    if (fd >= 0) {
        receive(fd, reply);
    }
    return reply->status;
}

int tc_http(const char *address, const char *method, const char *path, const char *headers,
            const void *body, size_t body_len, struct tc_reply *reply)
{
    return tc_end(tc_begin(address, method, path, headers, body, body_len), reply);
}

int tc_raw(const char *address, const void *bytes, size_t len, struct tc_reply *reply)
{
    int fd = dial(address);
    assert_true(fd >= 0);
    struct timeval patience = {.tv_sec = 2};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    send_all(fd, bytes, len);
    receive(fd, reply);
    return reply->status;
}

void tc_reply_deinit(struct tc_reply *reply)
{
    free(reply->head);
    free(reply->body);
    *reply = (struct tc_reply){0};
}

bool tc_header(const struct tc_reply *reply, const char *name, char *out, size_t out_bytes)
{
    char needle[80];
    snprintf(needle, sizeof needle, "\r\n%s: ", name);
    const char *at = reply->head ? strcasestr(reply->head, needle) : NULL;
    if (!at) {
        return false;
    }
    at += strlen(needle);
    snprintf(out, out_bytes, "%.*s", (int)strcspn(at, "\r\n"), at);
    return true;
}
