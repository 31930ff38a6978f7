/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the asynchronous form of a request in a wrapper: the same steps as the blocking form in wrapper.c,
 * taken from submit and drive, with a frame on the heap in place of a stack.
 *
 * Thread: that of submit and drive; hadb__wrapper_wake any.
 * Invariants: done is called once per accepted request, from drive or close, never from submit. A refusal by the submit
 * inside is an answer like any other, so a wrapper may repeat it; but HADB_EBUSY and HADB_ENOTSUP end the request: they
 * ask the caller for the blocking method.
 * Happy path: submit: before, submit inside; its done: after, done outside.
 * Failure modes: HADB_ENOMEM, HADB_ENOTSUP (no asynchronous path inside), nothing sent.
 *
 * Wrappers that wait (for a pause to pass, for a place) have an epoll set of their own with the descriptor inside, a
 * timer, and a wake-up for other threads; the others lend the descriptor inside. Nobody reads events from the set: it
 * is readable when there is something to drive, and drive looks.
 *
 * Atomic: woken (acquire and release around wake_fd, which is written once until it is read).
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/error.h"
#include "storage/storage_private.h"
#include "storage/wrapper_private.h"

/* --- the descriptor ----------------------------------------------------------------------------- */

static bool watch(int epoll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

void hadb__wrapper_close_fds(struct hadb__wrapper *w)
{
    close_fd(&w->epoll_fd);
    close_fd(&w->timer_fd);
    close_fd(&w->wake_fd);
}

static bool waits(const struct hadb__wrapper *w)
{
    return w->steps->pause || w->steps->unpark;
}

int hadb__wrapper_fd(void *self)
{
    struct hadb__wrapper *w = self;
    int inner = hadb_storage_fd(&w->inner);
    if (inner < 0 || !waits(w) || w->epoll_fd >= 0) {
        return inner < 0 || !waits(w) ? inner : w->epoll_fd;
    }
    w->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (w->epoll_fd < 0 || !watch(w->epoll_fd, inner) || !watch(w->epoll_fd, w->timer_fd) ||
        !watch(w->epoll_fd, w->wake_fd)) {
        hadb__wrapper_close_fds(w);
    }
    return w->epoll_fd;
}

void hadb__wrapper_wake(struct hadb__wrapper *w)
{
    if (__atomic_exchange_n(&w->woken, 1, __ATOMIC_ACQ_REL) == 0) {
        eventfd_write(w->wake_fd, 1);
    }
}

static void drain(struct hadb__wrapper *w)
{
    uint64_t count;
    if (w->armed) {
        w->armed = read(w->timer_fd, &count, sizeof count) < 0; /* not yet */
    }
    if (__atomic_load_n(&w->woken, __ATOMIC_ACQUIRE)) {
        ssize_t n = read(w->wake_fd, &count, sizeof count);
        if (n > 0) { /* else its writer has not come to it yet: it makes the set readable */
            __atomic_store_n(&w->woken, 0, __ATOMIC_RELEASE);
        }
    }
}

static void arm(struct hadb__wrapper *w, uint64_t in_ms)
{
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(in_ms / 1000),
                                           .tv_nsec = (long)(in_ms % 1000) * 1000000 + 1}};
    int r = timerfd_settime(w->timer_fd, 0, &when, NULL);
    HADB_ASSERT(r == 0);
    w->armed = true;
}

/* For the first frame that waits; @parked ones are looked at again and again. */
static void arm_for_waiting(struct hadb__wrapper *w, size_t parked)
{
    uint64_t now = hadb_now_ms(w->env), in_ms = parked > 0 ? HADB_WRAPPER_LOOK_MS : UINT64_MAX;
    for (const struct hadb__frame *f = w->paused; f; f = f->next) {
        uint64_t left = f->at_ms > now ? f->at_ms - now : 0;
        bool looks = f->request.call && f->request.call->cancel;
        in_ms = HADB_MIN(in_ms, looks ? HADB_MIN(left, HADB_WRAPPER_LOOK_MS) : left);
    }
    if (in_ms != UINT64_MAX) {
        arm(w, in_ms);
    }
}

/* --- a frame ------------------------------------------------------------------------------------ */

static const struct {
    enum hadb_storage_op op;
    enum hadb_storage_io_type type;
} types[] = {
    {HADB_STORAGE_OP_GET, HADB_IO_GET},         {HADB_STORAGE_OP_GET_RANGE, HADB_IO_GET_RANGE},
    {HADB_STORAGE_OP_HEAD, HADB_IO_HEAD},       {HADB_STORAGE_OP_CREATE, HADB_IO_CREATE},
    {HADB_STORAGE_OP_REPLACE, HADB_IO_REPLACE},
};

static struct hadb__request request_of(const struct hadb_storage_io *io)
{
    HADB_ASSERT((size_t)io->type - 1 < HADB_LEN(types) && types[io->type - 1].type == io->type);
    return (struct hadb__request){.op = types[io->type - 1].op,
                                  .call = io->call,
                                  .key = io->key,
                                  .out = io->out,
                                  .tag = io->tag,
                                  .offset = io->offset,
                                  .len = io->len,
                                  .meta = io->meta,
                                  .body = io->body,
                                  .expected = io->expected};
}

static bool settle(struct hadb__frame *f);

static void inner_done(struct hadb_storage_io *io);

static struct hadb_storage_io io_of(struct hadb__frame *f)
{
    const struct hadb__request *q = &f->request;
    return (struct hadb_storage_io){.type = f->outer->type,
                                    .call = q->call,
                                    .key = q->key,
                                    .offset = q->offset,
                                    .len = q->len,
                                    .body = q->body,
                                    .expected = q->expected,
                                    .out = q->out,
                                    .tag = q->tag,
                                    .meta = q->meta,
                                    .done = inner_done,
                                    .arg = f};
}

/* It has its place: inside with it. False: it has ended, frame->r is the answer. */
static bool send(struct hadb__frame *f)
{
    struct hadb__wrapper *w = f->w;
    f->err = (struct hadb_error){0};
    f->io = io_of(f);
    f->r = w->closing ? hadb_fail(&f->err, HADB_ECANCELED, "the store is being closed")
                      : hadb_storage_submit(&w->inner, &f->io, &f->err);
    if (f->r == 0) {
        return true;
    }
    f->elsewhere = f->r == HADB_EBUSY || f->r == HADB_ENOTSUP;
    return settle(f);
}

/* One try. False: as send. */
static bool try(struct hadb__frame *f)
{
    f->r = f->w->steps->before ? f->w->steps->before(f) : 0;
    return f->r == HADB__PARKED || (f->r == 0 && send(f));
}

/* A try has its answer. True: there will be another one. */
static bool settle(struct hadb__frame *f)
{
    struct hadb__wrapper *w = f->w;
    bool again = w->steps->after && w->steps->after(f);
    if (!again || f->elsewhere || w->closing) {
        return false;
    }
    f->at_ms = hadb_now_ms(w->env) + f->wait_ms;
    f->next = w->paused;
    w->paused = f;
    return true;
}

static void finish(struct hadb__frame *f)
{
    struct hadb_storage_io *outer = f->outer;
    int r = f->r;
    outer->err = f->err;
    f->w->frames_len--;
    hadb_free(f);
    hadb__storage_io_done(outer, r);
}

/* From drive or close of the backend inside. */
static void inner_done(struct hadb_storage_io *io)
{
    struct hadb__frame *f = io->arg;
    f->r = io->result;
    f->err = io->err;
    if (!settle(f)) {
        finish(f);
    }
}

int hadb__wrapper_submit(void *self, struct hadb_storage_io *io, struct hadb_error *err)
{
    struct hadb__wrapper *w = self;
    if (w->closing) {
        return hadb_fail(err, HADB_ECANCELED, "the store is being closed");
    }
    if (hadb__wrapper_fd(w) < 0) {
        return hadb_fail(err, HADB_ENOTSUP, "the storage inside has no asynchronous path");
    }
    struct hadb__frame *f = hadb_calloc(1, sizeof *f);
    if (!f) {
        return hadb_fail_nomem(err);
    }
    f->w = w;
    f->async = true;
    f->outer = io;
    f->request = request_of(io);
    io->err = (struct hadb_error){0};
    if (try(f)) {
        w->frames_len++;
        if (f->r != 0) { /* it waits */
            arm_for_waiting(w, f->r == HADB__PARKED);
        }
        return 0;
    }
    int r = f->r;
    HADB_ASSERT(r < 0);
    if (err) {
        *err = f->err;
    }
    hadb_free(f);
    return r;
}

/* --- drive -------------------------------------------------------------------------------------- */

/* What is paused by now, and no longer: what is paused meanwhile waits its turn. */
static void run_paused(struct hadb__wrapper *w)
{
    uint64_t now = hadb_now_ms(w->env);
    struct hadb__frame *list = w->paused, *next;
    w->paused = NULL;
    for (struct hadb__frame *f = list; f; f = next) {
        next = f->next;
        if (!w->closing && now < f->at_ms && !hadb_call_cancelled(f->request.call)) {
            f->next = w->paused;
            w->paused = f;
        } else if (!try(f)) {
            finish(f);
        }
    }
}

/* Returns how many stay parked. */
static size_t run_parked(struct hadb__wrapper *w)
{
    size_t parked = 0;
    for (size_t n = w->frames_len; w->steps->unpark; n--) {
        struct hadb__frame *f = w->steps->unpark(w, w->closing, &parked);
        if (!f) {
            break;
        }
        if (f->r < 0 || !send(f)) {
            finish(f);
        }
        if (n <= 1 && !w->closing) { /* done asks again and again: the next turn */
            parked++;
            break;
        }
    }
    return parked;
}

size_t hadb__wrapper_drive(void *self)
{
    struct hadb__wrapper *w = self;
    hadb_storage_drive(&w->inner);
    if (w->epoll_fd >= 0) {
        drain(w);
        if (w->paused) {
            run_paused(w);
        }
        size_t parked = w->frames_len > 0 ? run_parked(w) : 0;
        if (w->paused || parked > 0) {
            arm_for_waiting(w, parked);
        }
    }
    return w->frames_len;
}

void hadb__wrapper_end_frames(struct hadb__wrapper *w)
{
    w->closing = true;
    run_paused(w);
    (void)run_parked(w);
}
