/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the thread that reads and writes for one connection of nats.c, in place of the threads of its own.
 *
 * Why: over TLS the releases of nats.c before 3.11 read on one thread and write on others, with one SSL object, which
 * OpenSSL forbids: records may be torn. As an "external event loop" of nats.c all of it happens here, over TLS and without.
 * Thread: reads, writes and whatever they end run on the pump's thread. nats.c calls back from any thread, with
 * its lock held: mu is a leaf, and never held over a call of nats.c.
 * Invariants: nothing but the pump's thread closes the connection while it runs (no reconnects, no pings of nats.c's timer;
 * it is destroyed after the thread has ended), so nobody frees what it is reading with.
 * Happy path: wait for the socket or for a poke, read or write, again.
 * Failure modes: the connection broke: nats.c says so by taking the socket back, and the thread ends.
 */
#include "lease/nats_pump.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/error.h"
#include "base/thread.h"

struct hadb__nats_pump {
    const struct hadb_env *env;
    natsConnection *nc; /* from attach on; not owned */
    int fd, poke_fd;
    struct hadb_thread thread; /* whoever starts and destroys */
    struct hadb_mutex mu;
    bool reading, writing; /* mu; what nats.c wants to know of the socket */
    bool stop;             /* mu */
    uint64_t heard_ms;     /* mu */
};

/* --- what nats.c says, on any thread --------------------------------------------------------------- */

static void poke(struct hadb__nats_pump *p)
{
    uint64_t one = 1;
    while (write(p->poke_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

static natsStatus attach(void **user, void *loop, natsConnection *nc, natsSock fd)
{
    struct hadb__nats_pump *p = loop;
    p->nc = nc;
    p->fd = fd;
    p->reading = true;
    *user = p;
    return NATS_OK;
}

static natsStatus want(struct hadb__nats_pump *p, bool *what, bool add)
{
    hadb_mutex_lock(&p->mu);
    *what = add;
    hadb_mutex_unlock(&p->mu);
    poke(p);
    return NATS_OK;
}

static natsStatus want_reading(void *user, bool add)
{
    struct hadb__nats_pump *p = user;
    return want(p, &p->reading, add);
}

static natsStatus want_writing(void *user, bool add)
{
    struct hadb__nats_pump *p = user;
    return want(p, &p->writing, add);
}

static natsStatus detach(void *user)
{
    (void)user; /* reading has ended before; memory is freed by hadb__nats_pump_destroy() */
    return NATS_OK;
}

natsStatus hadb__nats_pump_use(struct hadb__nats_pump *pump, natsOptions *options)
{
    return natsOptions_SetEventLoop(options, pump, attach, want_reading, want_writing, detach);
}

/* --- the thread ------------------------------------------------------------------------------------- */

/* What to wait for; 0 = the connection is over, or the pump has to end. */
static short wanted(struct hadb__nats_pump *p)
{
    hadb_mutex_lock(&p->mu);
    short events = p->stop || !p->reading ? 0 : (short)(p->writing ? POLLIN | POLLOUT : POLLIN);
    hadb_mutex_unlock(&p->mu);
    return events;
}

static void heard(struct hadb__nats_pump *p)
{
    uint64_t now_ms = hadb_now_ms(p->env);
    hadb_mutex_lock(&p->mu);
    p->heard_ms = now_ms;
    hadb_mutex_unlock(&p->mu);
}

static void pump(void *arg)
{
    struct hadb__nats_pump *p = arg;
    for (short events; (events = wanted(p)) != 0;) {
        struct pollfd fds[] = {{.fd = p->fd, .events = events},
                               {.fd = p->poke_fd, .events = POLLIN}};
        if (poll(fds, 2, -1) <= 0) {
            continue;
        }
        if (fds[1].revents) {
            uint64_t pokes;
            (void)!read(p->poke_fd, &pokes, sizeof(pokes));
        }
        if (fds[0].revents & ~POLLOUT) { /* an error is read, too */
            heard(p);
            natsConnection_ProcessReadEvent(p->nc);
        }
        if ((fds[0].revents & POLLOUT) && wanted(p) & POLLOUT) { /* reading may have ended it */
            natsConnection_ProcessWriteEvent(p->nc);
        }
    }
    nats_ReleaseThreadMemory();
}

/* --- the owner's side ------------------------------------------------------------------------------- */

int hadb__nats_pump_new(const struct hadb_env *env, struct hadb__nats_pump **out,
                        struct hadb_error *err)
{
    struct hadb__nats_pump *p = hadb_calloc(1, sizeof(*p));
    if (!p) {
        return hadb_fail_nomem(err);
    }
    *p = (struct hadb__nats_pump){.env = env, .fd = -1, .heard_ms = hadb_now_ms(env)};
    p->poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->poke_fd < 0) {
        hadb_free(p);
        return hadb_fail(err, HADB_EUNAVAIL, "no descriptor is left for a connection");
    }
    hadb_mutex_init(&p->mu, 0);
    *out = p;
    return 0;
}

int hadb__nats_pump_start(struct hadb__nats_pump *p, struct hadb_error *err)
{
    return hadb_thread_start(&p->thread, "hadb-nats", pump, p, err);
}

uint64_t hadb__nats_pump_heard_ms(struct hadb__nats_pump *p)
{
    hadb_mutex_lock(&p->mu);
    uint64_t ms = p->heard_ms;
    hadb_mutex_unlock(&p->mu);
    return ms;
}

void hadb__nats_pump_destroy(struct hadb__nats_pump *p, natsConnection *nc)
{
    if (p) {
        hadb_mutex_lock(&p->mu);
        p->stop = true;
        if (p->reading) { /* then the socket is open; nats.c may wait on it for the rest of a TLS record */
            (void)shutdown(p->fd, SHUT_RDWR);
        }
        hadb_mutex_unlock(&p->mu);
        poke(p);
        hadb_thread_join(&p->thread);
    }
    natsConnection_Destroy(nc);
    if (p) {
        close(p->poke_fd);
        hadb_mutex_deinit(&p->mu);
        hadb_free(p);
    }
}
