/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Latency for the benchmark s3client: a process that passes connections on and holds back what comes from the server.
 *
 * One poll loop; each connection has a queue of what was read and when it is due. What the client sends is passed on at
 * once, blocking: requests here are small. Ends with its parent.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/s3_load.h"
#include "bench/stats.h"

#define PAIRS_MAX 64u
#define CHUNK_BYTES 65536u

struct chunk {
    uint64_t due_ns;
    size_t len;
    struct chunk *next;
    char bytes[CHUNK_BYTES];
};

struct pair {
    int client, server; /* -1 = free */
    struct chunk *first, *last;
};

static struct pair pairs[PAIRS_MAX];
static uint64_t delay_ns;

static int open_socket(struct sockaddr_in *at, bool listens)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof *at;
    bool ok =
        fd >= 0 && (listens ? bind(fd, (struct sockaddr *)at, len) == 0 && listen(fd, 128) == 0 &&
                                  getsockname(fd, (struct sockaddr *)at, &len) == 0
                            : connect(fd, (struct sockaddr *)at, len) == 0);
    if (!ok) {
        bench_die("the proxy gets no socket");
    }
    return fd;
}

static void no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n <= 0) {
            return; /* the peer is gone: its end is seen on the next read */
        }
        bytes += n;
        len -= (size_t)n;
    }
}

static void end_pair(struct pair *pair)
{
    close(pair->client);
    close(pair->server);
    while (pair->first != NULL) {
        struct chunk *chunk = pair->first;
        pair->first = chunk->next;
        free(chunk);
    }
    *pair = (struct pair){.client = -1, .server = -1};
}

static void accept_pair(int listener, struct sockaddr_in *server)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    for (size_t i = 0; i < PAIRS_MAX; i++) {
        if (pairs[i].client < 0) {
            pairs[i].client = fd;
            pairs[i].server = open_socket(server, false);
            no_delay(pairs[i].client);
            no_delay(pairs[i].server);
            return;
        }
    }
    bench_die("too many connections through the proxy");
}

static void from_client(struct pair *pair)
{
    static char bytes[CHUNK_BYTES];
    ssize_t n = read(pair->client, bytes, sizeof bytes);
    if (n <= 0) {
        end_pair(pair);
    } else {
        write_all(pair->server, bytes, (size_t)n);
    }
}

static void from_server(struct pair *pair)
{
    struct chunk *chunk = bench_alloc(sizeof *chunk);
    ssize_t n = read(pair->server, chunk->bytes, sizeof chunk->bytes);
    if (n <= 0) {
        free(chunk);
        end_pair(pair);
        return;
    }
    chunk->len = (size_t)n;
    chunk->due_ns = bench_now_ns() + delay_ns;
    *(pair->last && pair->first ? &pair->last->next : &pair->first) = chunk;
    pair->last = chunk;
}

/* Passes on what is due. Returns how long nothing will be. */
static uint64_t pass_due(void)
{
    uint64_t now = bench_now_ns(), wait = 1000000000;
    for (size_t i = 0; i < PAIRS_MAX; i++) {
        struct pair *pair = &pairs[i];
        while (pair->first != NULL && pair->first->due_ns <= now) {
            struct chunk *chunk = pair->first;
            pair->first = chunk->next;
            write_all(pair->client, chunk->bytes, chunk->len);
            free(chunk);
        }
        if (pair->first != NULL && pair->first->due_ns - now < wait) {
            wait = pair->first->due_ns - now;
        }
    }
    return wait;
}

static void serve(int listener, struct sockaddr_in *server)
{
    for (;;) {
        uint64_t wait = pass_due();
        struct timespec pause = {.tv_sec = (time_t)(wait / 1000000000),
                                 .tv_nsec = (long)(wait % 1000000000)};
        struct pollfd fds[1 + 2 * PAIRS_MAX] = {{.fd = listener, .events = POLLIN}};
        for (size_t i = 0; i < PAIRS_MAX; i++) {
            fds[1 + 2 * i] = (struct pollfd){.fd = pairs[i].client, .events = POLLIN};
            fds[2 + 2 * i] = (struct pollfd){.fd = pairs[i].server, .events = POLLIN};
        }
        if (ppoll(fds, 1 + 2 * PAIRS_MAX, &pause, NULL) <= 0) {
            continue;
        }
        for (size_t i = 0; i < PAIRS_MAX; i++) {
            if (fds[1 + 2 * i].revents != 0) {
                from_client(&pairs[i]);
            }
            if (fds[2 + 2 * i].revents != 0 && pairs[i].server == fds[2 + 2 * i].fd) {
                from_server(&pairs[i]);
            }
        }
        if (fds[0].revents != 0) {
            accept_pair(listener, server);
        }
    }
}

unsigned s3_proxy_start(const char *origin, unsigned delay_ms, int *pid)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in server = at;
    server.sin_port = htons((uint16_t)atoi(strrchr(origin, ':') + 1));
    int listener = open_socket(&at, true);
    delay_ns = (uint64_t)delay_ms * 1000000;
    *pid = fork();
    if (*pid < 0) {
        bench_die("no process for the proxy");
    }
    if (*pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        for (size_t i = 0; i < PAIRS_MAX; i++) {
            pairs[i] = (struct pair){.client = -1, .server = -1};
        }
        serve(listener, &server);
    }
    close(listener);
    return ntohs(at.sin_port);
}

void s3_proxy_stop(int pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
