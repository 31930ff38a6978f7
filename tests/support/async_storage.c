/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See the header.
 *
 * Thread: submit, fd and drive on one; THREADS of its own, started by the first submit, carry out. The mutex guards
 * the lists and is not held over requests.
 */
#include "tests/support/async_storage.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/thread.h"
#include "storage/storage_private.h"

#define THREADS 8u

static unsigned threads; /* atomic */

unsigned test_async_storage_threads(void)
{
    return __atomic_load_n(&threads, __ATOMIC_SEQ_CST);
}

struct entry {
    struct hadb_storage_io *io;
    struct entry *next;
};

struct list {
    struct entry *head, *tail;
};

struct async {
    struct hadb_storage_ops ops; /* const after init; the scheme is that of the backend inside */
    struct hadb_storage inner;
    int fd;
    struct hadb_thread threads[THREADS]; /* thread of submit */
    struct hadb_mutex mu;
    struct hadb_cond work;
    struct list waiting, done; /* mu */
    size_t running;            /* mu: accepted and not reported */
    bool closing;              /* mu */
};

static void push(struct list *list, struct entry *entry)
{
    entry->next = NULL;
    *(list->tail ? &list->tail->next : &list->head) = entry;
    list->tail = entry;
}

static struct entry *pop(struct list *list)
{
    struct entry *entry = list->head;
    if (entry) {
        list->head = entry->next;
        list->tail = list->head ? list->tail : NULL;
    }
    return entry;
}

static int perform(struct hadb_storage *s, struct hadb_storage_io *io)
{
    switch (io->type) {
    case HADB_IO_GET:
        return hadb_storage_get(s, io->call, io->key, io->out, io->tag, &io->err);
    case HADB_IO_GET_RANGE:
        return hadb_storage_get_range(s, io->call, io->key, io->offset, io->len, io->out, &io->err);
    case HADB_IO_HEAD:
        return hadb_storage_head(s, io->call, io->key, io->meta, &io->err);
    case HADB_IO_CREATE:
        return hadb_storage_create(s, io->call, io->key, io->body, io->tag, &io->err);
    case HADB_IO_REPLACE:
        return hadb_storage_replace(s, io->call, io->key, io->body, io->expected, io->tag,
                                    &io->err);
    }
    abort();
}

static void carry_out(void *arg)
{
    struct async *a = arg;
    hadb_mutex_lock(&a->mu);
    while (!a->closing || a->waiting.head) {
        struct entry *entry = pop(&a->waiting);
        if (!entry) {
            hadb_cond_wait(&a->work, &a->mu);
            continue;
        }
        hadb_mutex_unlock(&a->mu);
        entry->io->result = perform(&a->inner, entry->io);
        hadb_mutex_lock(&a->mu);
        push(&a->done, entry);
        (void)eventfd_write(a->fd, 1);
    }
    hadb_mutex_unlock(&a->mu);
}

static int async_submit(void *self, struct hadb_storage_io *io, struct hadb_error *err)
{
    struct async *a = self;
    for (unsigned i = 0; i < THREADS && !a->threads[THREADS - 1].running; i++) {
        HADB_ASSERT(hadb_thread_start(&a->threads[i], "async", carry_out, a, err) == 0);
        __atomic_fetch_add(&threads, 1, __ATOMIC_SEQ_CST);
    }
    struct entry *entry =
        malloc(sizeof *entry); /* tests that let memory fail are not about this file */
    HADB_ASSERT(entry);
    entry->io = io;
    io->err = (struct hadb_error){0};
    hadb_mutex_lock(&a->mu);
    push(&a->waiting, entry);
    a->running++;
    hadb_cond_signal(&a->work);
    hadb_mutex_unlock(&a->mu);
    return 0;
}

static int async_fd(void *self)
{
    return ((struct async *)self)->fd;
}

static size_t async_drive(void *self)
{
    struct async *a = self;
    uint64_t count;
    ssize_t n = read(a->fd, &count, sizeof count);
    (void)n;
    hadb_mutex_lock(&a->mu);
    struct entry *list = a->done.head;
    a->done = (struct list){0};
    for (const struct entry *entry = list; entry; entry = entry->next) {
        a->running--;
    }
    size_t running = a->running;
    hadb_mutex_unlock(&a->mu);
    while (list) {
        struct entry *entry = list;
        struct hadb_storage_io *io = entry->io;
        list = entry->next;
        free(entry);
        hadb__storage_io_done(io, io->result);
    }
    return running;
}

static void async_close(void *self)
{
    struct async *a = self;
    hadb_mutex_lock(&a->mu);
    a->closing = true;
    hadb_cond_broadcast(&a->work);
    hadb_mutex_unlock(&a->mu);
    for (unsigned i = 0; i < THREADS; i++) {
        if (a->threads[i].running) {
            hadb_thread_join(&a->threads[i]);
            __atomic_fetch_sub(&threads, 1, __ATOMIC_SEQ_CST);
        }
    }
    async_drive(a);
    hadb_storage_close(&a->inner);
    hadb_cond_deinit(&a->work);
    hadb_mutex_deinit(&a->mu);
    close(a->fd);
    free(a);
}

/* ---- what is passed on ---- */

static struct hadb_storage *in(void *self)
{
    return &((struct async *)self)->inner;
}

static int async_get(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    return hadb_storage_get(in(self), call, key, out, tag, err);
}

static int async_create(void *self, const struct hadb_call *call, const char *key,
                        struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err)
{
    return hadb_storage_create(in(self), call, key, body, tag, err);
}

static int async_replace(void *self, const struct hadb_call *call, const char *key,
                         struct hadb_slice body, const struct hadb_tag *expected,
                         struct hadb_tag *tag, struct hadb_error *err)
{
    return hadb_storage_replace(in(self), call, key, body, expected, tag, err);
}

static int async_list(void *self, const struct hadb_call *call, const char *prefix,
                      const char *after, size_t max, struct hadb_object_list *out,
                      struct hadb_error *err)
{
    return hadb_storage_list(in(self), call, prefix, after, max, out, err);
}

static int async_delete_many(void *self, const struct hadb_call *call, const char *const *keys,
                             size_t len, struct hadb_error *err)
{
    return hadb_storage_delete_many(in(self), call, keys, len, err);
}

static uint32_t async_caps(void *self)
{
    return hadb_storage_caps(in(self));
}

void test_async_storage(struct hadb_storage *storage)
{
    struct async *a = calloc(1, sizeof *a);
    HADB_ASSERT(a && hadb_storage_check(storage, NULL) == 0);
    a->ops = (struct hadb_storage_ops){
        .abi = HADB_STORAGE_ABI,
        .scheme = storage->ops->scheme,
        .get = async_get,
        .create = async_create,
        .replace = async_replace,
        .list = async_list,
        .delete_many = async_delete_many,
        .caps = async_caps,
        .close = async_close,
        .submit = async_submit,
        .fd = async_fd,
        .drive = async_drive,
    };
    a->inner = *storage;
    a->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    HADB_ASSERT(a->fd >= 0);
    hadb_mutex_init(&a->mu, 0);
    hadb_cond_init(&a->work);
    *storage = (struct hadb_storage){.ops = &a->ops, .self = a};
}

void test_async_storage_if_asked(struct hadb_storage *storage)
{
    const char *asked = getenv("HADB_TEST_ASYNC");
    if (asked && strcmp(asked, "1") == 0) {
        test_async_storage(storage);
    }
}
