/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that passes connections on: to put latency before a server (s3client), and to reach servers of this host's
 * loopback from network namespaces that have none of it (failover --fault vanish).
 *
 * One poll loop; each connection has a queue of what the server sent and when it is due. What the client sends is passed
 * on at once, blocking: requests here are small. A client that is gone without a word is found by the kernel (keep-alive,
 * user time-out) and its connection ended. Ends with its parent.
 */
#include "bench/relay.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/stats.h"

#define PAIRS_MAX 512u
#define CHUNK_BYTES 65536u
#define SILENT_S_MAX 5 /* a client that does not even acknowledge for so long is gone */

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
        bench_die("the relay gets no socket");
    }
    return fd;
}

static void prepare(int fd)
{
    int on = 1, idle_s = SILENT_S_MAX - 3, every_s = 1, tries = 3, user_ms = SILENT_S_MAX * 1000;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof user_ms);
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
            prepare(pairs[i].client);
            prepare(pairs[i].server);
            return;
        }
    }
    bench_die("too many connections through the relay");
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

unsigned bench_relay_start(const struct bench_relay *relay, int *pid)
{
    struct sockaddr_in at = {.sin_family = AF_INET}, server = at;
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.sin_port = htons((uint16_t)relay->port);
    if (inet_pton(AF_INET, relay->host, &at.sin_addr) != 1) {
        bench_die("%s is no address to listen on", relay->host);
    }
    int listener = open_socket(&at, true);
    delay_ns = (uint64_t)relay->delay_ms * 1000000;
    *pid = fork();
    if (*pid < 0) {
        bench_die("no process for the relay");
    }
    if (*pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        if (relay->netns > 0 && setns(relay->netns, CLONE_NEWNET) != 0) {
            _exit(126);
        }
        for (size_t i = 0; i < PAIRS_MAX; i++) {
            pairs[i] = (struct pair){.client = -1, .server = -1};
        }
        serve(listener, &server);
    }
    close(listener);
    return ntohs(at.sin_port);
}

void bench_relay_stop(int pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
