/* SPDX-License-Identifier: Apache-2.0 */
/* See canned.h. */
#include "tests/support/canned.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/thread.h"

#define ASKED_BYTES_MAX (1u << 20)

struct canned_thread {
    struct hadb_thread thread;
    const char *const *replies;
};

static bool say(int fd, const char *text)
{
    size_t len = strlen(text);
    return send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void run(void *arg)
{
    struct canned *c = arg;
    const char *const *next = c->thread->replies;
    while (*next) {
        int fd = accept(c->listener, NULL, NULL);
        if (fd < 0) {
            return; /* stopped */
        }
        while (*next && c->asked_len < ASKED_BYTES_MAX) {
            ssize_t n = recv(fd, c->asked + c->asked_len, ASKED_BYTES_MAX - c->asked_len, 0);
            if (n <= 0) {
                break;
            }
            c->asked_len += (size_t)n;
            const char *reply = *next++;
            if (reply[0] == '\0' || !say(fd, reply)) {
                break;
            }
        }
        close(fd);
    }
}

void canned_start(struct canned *c, const char *const *replies)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    *c = (struct canned){.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    HADB_ASSERT(c->listener >= 0);
    HADB_ASSERT(bind(c->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
    HADB_ASSERT(listen(c->listener, 16) == 0);
    HADB_ASSERT(getsockname(c->listener, (struct sockaddr *)&address, &len) == 0);
    c->port = ntohs(address.sin_port);
    c->asked = calloc(1, ASKED_BYTES_MAX + 1);
    c->thread = calloc(1, sizeof(*c->thread));
    c->thread->replies = replies;
    HADB_ASSERT(hadb_thread_start(&c->thread->thread, "canned", run, c, NULL) == 0);
}

void canned_stop(struct canned *c)
{
    shutdown(c->listener, SHUT_RDWR); /* wakes accept */
    hadb_thread_join(&c->thread->thread);
    close(c->listener);
    free(c->thread);
    c->thread = NULL;
}
