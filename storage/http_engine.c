/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns one multi handle of libcurl with its sockets in an epoll set, and a timer in the same set.
 *
 * Thread: one at a time.
 * Invariants: done is called from drive or close only, outside libcurl, once per accepted task; while a task has
 * ended and is not reported the timer is due, so that the descriptor is readable.
 * Happy path: start (request leaves) → socket readable → drive → done.
 * Failure modes: enum hadb__http_failure in the reply. A socket that cannot be watched ends its request
 * through idleness: epoll refuses only when memory or the limit of watches is used up.
 *
 * The timer is set again only for an earlier time: one that fires too early costs one drive without work, one
 * system call less per request is worth more.
 */
#include "storage/http_engine.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/error.h"
#include "base/http_easy.h"

#define EVENTS_MAX 64
#define NEVER UINT64_MAX
#define WAIT_MS_MAX 1000

struct hadb__engine_slot {
    struct hadb__easy easy;
    struct hadb__task *task;
    struct hadb__engine_slot *next; /* spare */
};

struct task_list {
    struct hadb__task *head, *tail;
};

struct hadb__engine {
    const struct hadb_env *env;
    CURLM *multi;
    int epoll_fd, timer_fd;
    uint64_t curl_at_ms;  /* libcurl's own timer */
    uint64_t check_at_ms; /* deadlines, idleness, cancels */
    uint64_t armed_ms;    /* when timer_fd fires */
    struct task_list running, ended;
    size_t running_len;
    struct hadb__engine_slot *spare;
    size_t spare_len;
    bool closing;
};

/* --- lists -------------------------------------------------------------------------------------- */

static void push(struct task_list *list, struct hadb__task *task)
{
    task->next = NULL;
    task->prev = list->tail;
    *(list->tail ? &list->tail->next : &list->head) = task;
    list->tail = task;
}

static void drop(struct task_list *list, struct hadb__task *task)
{
    *(task->prev ? &task->prev->next : &list->head) = task->next;
    *(task->next ? &task->next->prev : &list->tail) = task->prev;
    task->prev = task->next = NULL;
}

/* --- sockets and timer -------------------------------------------------------------------------- */

static int on_watch(CURL *curl, curl_socket_t fd, int what, void *arg, void *known)
{
    (void)curl;
    struct hadb__engine *e = arg;
    struct epoll_event event = {.data.fd = fd};
    if (what == CURL_POLL_REMOVE) {
        (void)epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, fd, NULL); /* may be closed already */
        curl_multi_assign(e->multi, fd, NULL);
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0u) |
                   (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0u);
    int r = epoll_ctl(e->epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    if (r != 0 && (errno == EEXIST || errno == ENOENT)) {
        r = epoll_ctl(e->epoll_fd, errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    }
    if (r == 0) {
        curl_multi_assign(e->multi, fd, e);
    }
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
    (void)multi;
    struct hadb__engine *e = arg;
    e->curl_at_ms = timeout_ms < 0 ? NEVER : hadb_now_ms(e->env) + (uint64_t)timeout_ms;
    return 0;
}

static void arm(struct hadb__engine *e)
{
    uint64_t at = HADB_MIN(e->curl_at_ms, e->check_at_ms);
    at = e->ended.head ? 0 : at;
    if (at >= e->armed_ms) {
        return;
    }
    uint64_t now = hadb_now_ms(e->env), in_ms = at > now ? at - now : 0;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(in_ms / 1000),
                                           .tv_nsec = (long)(in_ms % 1000) * 1000000 + 1}};
    int r = timerfd_settime(e->timer_fd, 0, &when, NULL);
    HADB_ASSERT(r == 0);
    e->armed_ms = at;
}

static void timer_fired(struct hadb__engine *e)
{
    uint64_t count;
    ssize_t len = read(e->timer_fd, &count, sizeof(count));
    (void)len; /* EAGAIN: it was set again meanwhile */
    e->armed_ms = NEVER;
}

/* --- tasks -------------------------------------------------------------------------------------- */

static struct hadb__engine_slot *slot_take(struct hadb__engine *e)
{
    struct hadb__engine_slot *slot = e->spare;
    if (slot) {
        e->spare = slot->next;
        e->spare_len--;
        return slot;
    }
    slot = hadb_calloc(1, sizeof(*slot));
    if (slot && !hadb__easy_init(&slot->easy)) {
        hadb_free(slot);
        slot = NULL;
    }
    return slot;
}

static void slot_free(struct hadb__engine_slot *slot)
{
    hadb__easy_deinit(&slot->easy);
    hadb_free(slot);
}

static void slot_give(struct hadb__engine *e, struct hadb__engine_slot *slot)
{
    if (e->spare_len == HADB_ENGINE_CONNECTIONS_MAX) {
        slot_free(slot);
        return;
    }
    slot->next = e->spare;
    e->spare = slot;
    e->spare_len++;
}

/* The task has its verdict; done is called later. */
static void end_task(struct hadb__engine *e, struct hadb__task *task, CURLcode code)
{
    struct hadb__engine_slot *slot = task->slot;
    curl_multi_remove_handle(e->multi, slot->easy.curl); /* unfinished: closes the connection */
    hadb__easy_end(&slot->easy, code);
    drop(&e->running, task);
    e->running_len--;
    push(&e->ended, task);
    task->slot = NULL;
    slot_give(e, slot);
}

static void collect(struct hadb__engine *e)
{
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(e->multi, &left)) != NULL) {
        struct hadb__engine_slot *slot = NULL;
        if (message->msg == CURLMSG_DONE) {
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&slot);
            end_task(e, slot->task, message->data.result);
        }
    }
}

static void action(struct hadb__engine *e, curl_socket_t fd, int flags)
{
    int running = 0;
    (void)curl_multi_socket_action(e->multi, fd, flags, &running);
}

/* libcurl tells of a time once, so it is forgotten only when it has come. */
static void run_timer(struct hadb__engine *e)
{
    if (e->curl_at_ms <= hadb_now_ms(e->env)) {
        e->curl_at_ms = NEVER;
        action(e, CURL_SOCKET_TIMEOUT, 0);
    }
}

/* Who must end now, and when is the next look due? */
static void check(struct hadb__engine *e)
{
    uint64_t now = hadb_now_ms(e->env);
    struct hadb__task *next;
    if (now < e->check_at_ms) {
        return;
    }
    e->check_at_ms = NEVER;
    for (struct hadb__task *task = e->running.head; task; task = next) {
        next = task->next;
        uint64_t wait = hadb__easy_wait_ms(&task->slot->easy, e->env);
        if (wait == 0) {
            end_task(e, task, CURLE_OK);
        } else {
            e->check_at_ms = HADB_MIN(e->check_at_ms, now + wait);
        }
    }
}

static void report(struct hadb__engine *e)
{
    struct hadb__task *last = e->ended.tail; /* what ends while they are reported waits its turn */
    while (e->ended.head) {
        struct hadb__task *task = e->ended.head;
        bool is_last = task == last;
        drop(&e->ended, task);
        task->done(task);
        if (is_last) {
            return;
        }
    }
}

int hadb__engine_start(struct hadb__engine *e, struct hadb__task *task, struct hadb_error *err)
{
    if (e->closing) {
        return hadb_fail(err, HADB_ECANCELED, "the store is being closed");
    }
    if (e->running_len == HADB_ENGINE_TASKS_MAX) {
        return hadb_fail(err, HADB_EBUSY, "%u requests run already, nothing sent",
                         HADB_ENGINE_TASKS_MAX);
    }
    struct hadb__engine_slot *slot = slot_take(e);
    if (!slot) {
        return hadb_fail_nomem(err);
    }
    slot->task = task;
    task->slot = slot;
    push(&e->running, task);
    e->running_len++;
    if (!hadb__easy_begin(&slot->easy, e->env, &task->request, task->call, task->reply) ||
        curl_easy_setopt(slot->easy.curl, CURLOPT_PRIVATE, slot) != CURLE_OK ||
        curl_multi_add_handle(e->multi, slot->easy.curl) != CURLM_OK) {
        end_task(e, task, CURLE_OUT_OF_MEMORY);
    } else {
        run_timer(e);
        collect(e);
        if (task->slot) {
            uint64_t wait = hadb__easy_wait_ms(&slot->easy, e->env);
            e->check_at_ms = HADB_MIN(e->check_at_ms, hadb_now_ms(e->env) + wait);
        }
    }
    arm(e);
    return 0;
}

size_t hadb__engine_drive(struct hadb__engine *e)
{
    struct epoll_event events[EVENTS_MAX];
    int len = epoll_wait(e->epoll_fd, events, EVENTS_MAX, 0);
    for (int i = 0; i < len; i++) {
        uint32_t what = events[i].events;
        if (events[i].data.fd == e->timer_fd) {
            timer_fired(e);
            continue;
        }
        action(e, events[i].data.fd,
               (what & EPOLLIN ? CURL_CSELECT_IN : 0) | (what & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (what & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_IN | CURL_CSELECT_ERR : 0));
    }
    run_timer(e);
    collect(e);
    check(e);
    report(e);
    arm(e);
    return e->running_len + (e->ended.head != NULL);
}

int hadb__engine_fd(const struct hadb__engine *e)
{
    return e->epoll_fd;
}

void hadb__engine_wait(struct hadb__engine *e)
{
    struct pollfd fd = {.fd = e->epoll_fd, .events = POLLIN};
    (void)poll(&fd, 1, WAIT_MS_MAX);
}

/* --- life --------------------------------------------------------------------------------------- */

void hadb__engine_close(struct hadb__engine *e)
{
    if (!e) {
        return;
    }
    e->closing = true;
    while (e->running.head) {
        e->running.head->reply->failure = HADB__HTTP_CANCELED;
        end_task(e, e->running.head, CURLE_OK);
    }
    report(e);
    HADB_ASSERT(!e->running.head && !e->ended.head);
    while (e->spare) {
        struct hadb__engine_slot *slot = e->spare;
        e->spare = slot->next;
        slot_free(slot);
    }
    if (e->multi) {
        curl_multi_cleanup(e->multi);
    }
    if (e->epoll_fd >= 0) {
        close(e->epoll_fd);
    }
    if (e->timer_fd >= 0) {
        close(e->timer_fd);
    }
    hadb_free(e);
}

static int engine_init(struct hadb__engine *e, struct hadb_error *err)
{
    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    e->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = e->timer_fd};
    if (e->epoll_fd < 0 || e->timer_fd < 0 ||
        epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, e->timer_fd, &event) != 0) {
        return hadb_fail_errno(err, errno, "set of sockets");
    }
    e->multi = curl_multi_init();
    if (!e->multi) {
        return hadb_fail_nomem(err);
    }
    curl_multi_setopt(e->multi, CURLMOPT_SOCKETFUNCTION, on_watch);
    curl_multi_setopt(e->multi, CURLMOPT_SOCKETDATA, e);
    curl_multi_setopt(e->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(e->multi, CURLMOPT_TIMERDATA, e);
    curl_multi_setopt(e->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(e->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)HADB_ENGINE_CONNECTIONS_MAX);
    curl_multi_setopt(e->multi, CURLMOPT_MAXCONNECTS, (long)HADB_ENGINE_CONNECTIONS_MAX);
    return 0;
}

int hadb__engine_open(const struct hadb_env *env, struct hadb__engine **out, struct hadb_error *err)
{
    int r = hadb__http_start(err);
    if (r) {
        return r;
    }
    struct hadb__engine *e = hadb_calloc(1, sizeof(*e));
    if (!e) {
        return hadb_fail_nomem(err);
    }
    e->env = env;
    e->epoll_fd = e->timer_fd = -1;
    e->curl_at_ms = e->check_at_ms = e->armed_ms = NEVER;
    r = engine_init(e, err);
    if (r) {
        hadb__engine_close(e);
        return r;
    }
    *out = e;
    return 0;
}
