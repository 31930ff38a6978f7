/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted backend; see the header. */
#include "tests/unit/storage/script_storage.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/error.h"
#include "storage/storage_private.h"

void script_init(struct script *s)
{
    *s = (struct script){.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    HADB_ASSERT(s->fd >= 0);
    hadb_mutex_init(&s->mu, 0);
    hadb_cond_init(&s->moved);
}

void script_deinit(struct script *s)
{
    close(s->fd);
    hadb_cond_deinit(&s->moved);
    hadb_mutex_deinit(&s->mu);
}

void script_add(struct script *s, int result, size_t times)
{
    for (; times > 0; times--) {
        HADB_ASSERT(s->len < SCRIPT_LEN_MAX);
        s->answers[s->len++].result = result;
    }
}

/* Lock held. */
static void show(struct script *s)
{
    uint64_t count;
    if (s->held_len > 0 && !s->hold) {
        (void)eventfd_write(s->fd, 1);
    } else {
        (void)!read(s->fd, &count, sizeof count);
    }
}

void script_hold(struct script *s, bool hold)
{
    hadb_mutex_lock(&s->mu);
    s->hold = hold;
    show(s);
    hadb_cond_broadcast(&s->moved);
    hadb_mutex_unlock(&s->mu);
}

void script_await(struct script *s, unsigned inside)
{
    hadb_mutex_lock(&s->mu);
    while (s->inside < inside) {
        hadb_cond_wait(&s->moved, &s->mu);
    }
    hadb_mutex_unlock(&s->mu);
}

size_t script_calls(struct script *s)
{
    hadb_mutex_lock(&s->mu);
    size_t calls = s->calls;
    hadb_mutex_unlock(&s->mu);
    return calls;
}

/* Lock held. Which answer it gets. */
static size_t arrive(struct script *s, const char *key, const char *after)
{
    size_t at = s->calls++;
    snprintf(s->last_key, sizeof(s->last_key), "%s", key);
    snprintf(s->last_after, sizeof(s->last_after), "%s", after);
    if (at < SCRIPT_LEN_MAX) {
        s->order[at] = key[0];
    }
    s->inside++;
    s->inside_max = HADB_MAX(s->inside_max, s->inside);
    hadb_cond_broadcast(&s->moved);
    return at;
}

/* Lock held. */
static int leave(struct script *s, size_t at, struct hadb_error *err)
{
    s->inside--;
    int r = at < s->len ? s->answers[at].result : 0;
    if (r < 0) {
        hadb_fail(err, r, "answer %zu of the script", at);
        if (s->answers[at].flip_retryable && err) {
            err->retryable = !err->retryable;
        }
        if (err) {
            err->http_status = s->answers[at].http_status;
        }
    }
    return r;
}

static int answer(struct script *s, const char *key, const char *after, struct hadb_error *err)
{
    hadb_mutex_lock(&s->mu);
    size_t at = arrive(s, key, after);
    while (s->hold) {
        hadb_cond_wait(&s->moved, &s->mu);
    }
    int r = leave(s, at, err);
    hadb_mutex_unlock(&s->mu);
    return r;
}

static int script_get(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    (void)call;
    (void)tag;
    int r = answer(self, key, "", err);
    if (r == 0) {
        hadb_buf_clear(out);
        r = hadb_buf_append_str(out, "scripted");
    }
    return r;
}

static int script_head(void *self, const struct hadb_call *call, const char *key,
                       struct hadb_object_meta *out, struct hadb_error *err)
{
    (void)call;
    (void)out;
    return answer(self, key, "", err);
}

static int script_create(void *self, const struct hadb_call *call, const char *key,
                         struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err)
{
    (void)call;
    (void)body;
    (void)tag;
    return answer(self, key, "", err);
}

static int script_replace(void *self, const struct hadb_call *call, const char *key,
                          struct hadb_slice body, const struct hadb_tag *expected,
                          struct hadb_tag *tag, struct hadb_error *err)
{
    (void)call;
    (void)body;
    (void)expected;
    (void)tag;
    return answer(self, key, "", err);
}

static int script_list(void *self, const struct hadb_call *call, const char *prefix,
                       const char *after, size_t max, struct hadb_object_list *out,
                       struct hadb_error *err)
{
    struct script *s = self;
    (void)call;
    (void)max;
    int r = answer(s, prefix, after, err);
    if (r == 0 && s->list_key) {
        r = hadb__object_list_add(out, hadb_slice_str(s->list_key), 1, err);
    }
    return r;
}

static int script_delete_many(void *self, const struct hadb_call *call, const char *const *keys,
                              size_t len, struct hadb_error *err)
{
    (void)call;
    return answer(self, keys[len - 1], "", err);
}

/* The number of its answer goes along in result. */
static int script_submit(void *self, struct hadb_storage_io *io, struct hadb_error *err)
{
    struct script *s = self;
    hadb_mutex_lock(&s->mu);
    int r = s->refuse;
    if (r == 0) {
        HADB_ASSERT(s->held_len < SCRIPT_LEN_MAX);
        io->err = (struct hadb_error){0};
        io->result = (int)arrive(s, io->key, "");
        s->held[s->held_len++] = io;
        show(s);
    }
    hadb_mutex_unlock(&s->mu);
    return r == 0 ? 0 : hadb_fail(err, r, "the script takes no requests");
}

static int script_fd(void *self)
{
    return ((struct script *)self)->fd;
}

static struct hadb_storage_io *take_first(struct script *s, size_t *left)
{
    struct hadb_storage_io *io = NULL;
    hadb_mutex_lock(&s->mu);
    if (s->held_len > 0 && !s->hold && *left > 0) {
        io = s->held[0];
        s->held_len--;
        memmove(s->held, s->held + 1, s->held_len * sizeof s->held[0]);
        io->result = leave(s, (size_t)io->result, &io->err);
        show(s);
        --*left;
    }
    hadb_mutex_unlock(&s->mu);
    return io;
}

static void report(struct hadb_storage_io *io)
{
    static const char text[] = "scripted";
    if (io->result == 0 && io->out) {
        bool whole = io->type == HADB_IO_GET;
        hadb_buf_clear(io->out);
        io->result = hadb_buf_append(io->out, text + (whole ? 0 : io->offset),
                                     whole ? sizeof text - 1 : io->len);
    }
    hadb__storage_io_done(io, io->result);
}

static size_t script_drive(void *self)
{
    struct script *s = self;
    size_t left = s->held_len; /* what is submitted meanwhile waits its turn */
    struct hadb_storage_io *io;
    while ((io = take_first(s, &left)) != NULL) {
        report(io);
    }
    return s->held_len;
}

static uint32_t script_caps(void *self)
{
    (void)self;
    return HADB_STORAGE_CAP_REPLACE | HADB_STORAGE_CAP_SHARED;
}

static void script_close(void *self)
{
    struct script *s = self;
    hadb_mutex_lock(&s->mu);
    s->closed++;
    s->refuse = HADB_ECANCELED;
    hadb_mutex_unlock(&s->mu);
    while (s->held_len > 0) {
        struct hadb_storage_io *io = s->held[--s->held_len];
        s->inside--;
        hadb_fail(&io->err, HADB_ECANCELED, "the script is closed");
        hadb__storage_io_done(io, HADB_ECANCELED);
    }
}

static const struct hadb_storage_ops script_ops = {
    .abi = HADB_STORAGE_ABI,
    .scheme = "script",
    .get = script_get,
    .head = script_head,
    .create = script_create,
    .replace = script_replace,
    .list = script_list,
    .delete_many = script_delete_many,
    .caps = script_caps,
    .close = script_close,
    .submit = script_submit,
    .fd = script_fd,
    .drive = script_drive,
};

struct hadb_storage script_storage(struct script *s)
{
    return (struct hadb_storage){.ops = &script_ops, .self = s};
}
