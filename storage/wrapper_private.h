/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request as a value, so that a wrapper which treats all operations alike is two functions: what it does
 * before a request goes inside, and what it makes of the answer. Both forms of a request, the blocking and the
 * asynchronous one, take the same two steps (wrapper.c, wrapper_async.c), so there is one place that decides.
 * A wrapper puts struct hadb__wrapper first and names HADB__WRAPPER_METHODS in its table.
 */
#ifndef HADB_STORAGE_WRAPPER_PRIVATE_H
#define HADB_STORAGE_WRAPPER_PRIVATE_H
#include "storage/counters.h"

struct hadb_cond;

/* Members that an operation does not have are zero. All are borrowed. */
struct hadb__request {
    enum hadb_storage_op op;
    const struct hadb_call *call;
    const char *key;                 /* list: the prefix; delete_many: NULL */
    struct hadb_buf *out;            /* get, get_range */
    struct hadb_tag *tag;            /* get, create, replace; may be NULL */
    uint64_t offset;                 /* get_range */
    size_t len;                      /* get_range: bytes; list: max; delete_many: keys */
    struct hadb_object_meta *meta;   /* head */
    struct hadb_slice body;          /* create, replace */
    const struct hadb_tag *expected; /* replace */
    const char *after;               /* list */
    struct hadb_object_list *list;   /* list */
    const char *const *keys;         /* delete_many */
};

/* One request on its way through one wrapper. On the stack of its thread, or, asynchronous, on the heap. */
struct hadb__frame {
    struct hadb__wrapper *w;
    struct hadb__request request; /* what is sent inside; before() may replace members */
    int r;                        /* of the last try */
    struct hadb_error err;
    bool async;
    bool elsewhere; /* submit inside needs the blocking method: nothing was asked of the store */
    /* What a wrapper keeps between its steps: */
    uint32_t tries;         /* with_retry */
    uint64_t wait_ms;       /* with_retry: before the next try */
    uint64_t epoch;         /* with_limit, its mu: at which it was let in */
    struct hadb_cond *cond; /* with_limit: of the thread that waits; NULL = asynchronous */
    bool let_in;            /* with_limit, its mu */
    bool probe;             /* with_breaker; epoch is its number */
    uint64_t began_ns;      /* with_trace */
    char *key, *after;      /* with_prefix: owned */
    char **keys;            /* … of request.len */
    struct hadb__frame *next;
    /* Asynchronous: */
    struct hadb_storage_io io, *outer;
    uint64_t at_ms; /* paused until then */
};

#define HADB__PARKED 1000 /* before(): it waits; unpark() gives it back */

/* What a wrapper does; members may be NULL. */
struct hadb__steps {
    /* 0: send it; <0: refused, which is the answer, and after() is not called. HADB__PARKED: async frames only. */
    int (*before)(struct hadb__frame *frame);
    /* Sends it, blocking; NULL = hadb__request_send to the backend inside. For backends that change requests. */
    int (*send)(void *self, const struct hadb__request *request, struct hadb_error *err);
    /* After each try that before() let in; may replace frame->r. True: once more, when frame->wait_ms are over. */
    bool (*after)(struct hadb__frame *frame);
    /* Waits frame->wait_ms; blocking frames. */
    void (*pause)(struct hadb__frame *frame);
    /* The next parked frame that goes on (frame->r 0) or ends (<0; all of them when @closing); NULL = none now.
     * *parked: how many are left. Thread of submit and drive. */
    struct hadb__frame *(*unpark)(void *self, bool closing, size_t *parked);
    void (*deinit)(void *self); /* once the inner backend is closed */
};

struct hadb__wrapper {
    struct hadb_storage inner; /* owned */
    const struct hadb_env *env;
    const struct hadb__steps *steps;
    /* Thread of submit and drive: */
    int epoll_fd, timer_fd, wake_fd; /* -1 = not made; only wrappers that wait have them */
    int woken;                       /* atomic: wake_fd is readable */
    bool armed, closing;
    size_t frames_len; /* under way */
    struct hadb__frame *paused;
};

#define HADB_WRAPPER_LOOK_MS 10u /* how late a request that waits may notice its cancel flag */

/* Sends the request to @storage, through dispatch. */
int hadb__request_send(struct hadb_storage *storage, const struct hadb__request *request,
                       struct hadb_error *err);
/* Body bytes that a finished request moved. */
uint64_t hadb__request_bytes(const struct hadb__request *request);
/* May the request still start? As hadb__write_check for writes, hadb_call_check for reads. */
int hadb__request_check(const struct hadb__wrapper *w, const struct hadb__request *request,
                        struct hadb_error *err);

/*
 * Moves *take_inner into a new wrapper of @size bytes, which starts with struct hadb__wrapper, and the
 * wrapper into *out. @out may be @take_inner. Returns the wrapper, NULL when out of memory.
 */
void *hadb__wrapper_new(size_t size, struct hadb_storage *take_inner, const struct hadb_env *env,
                        const struct hadb_storage_ops *ops, const struct hadb__steps *steps,
                        struct hadb_storage *out);
/* Ends what is under way, closes the inner backend, calls deinit and frees the wrapper. */
void hadb__wrapper_close(void *self);

/* wrapper_async.c */
int hadb__wrapper_submit(void *self, struct hadb_storage_io *io, struct hadb_error *err);
int hadb__wrapper_fd(void *self);
size_t hadb__wrapper_drive(void *self);
/* Parked frames may go on: drive is wanted. Any thread. */
void hadb__wrapper_wake(struct hadb__wrapper *w);
/* Before the inner backend is closed, and after it. */
void hadb__wrapper_end_frames(struct hadb__wrapper *w);
void hadb__wrapper_close_fds(struct hadb__wrapper *w);

int hadb__wrapper_get(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err);
int hadb__wrapper_get_range(void *self, const struct hadb_call *call, const char *key,
                            uint64_t offset, size_t len, struct hadb_buf *out,
                            struct hadb_error *err);
int hadb__wrapper_head(void *self, const struct hadb_call *call, const char *key,
                       struct hadb_object_meta *out, struct hadb_error *err);
int hadb__wrapper_create(void *self, const struct hadb_call *call, const char *key,
                         struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err);
int hadb__wrapper_replace(void *self, const struct hadb_call *call, const char *key,
                          struct hadb_slice body, const struct hadb_tag *expected,
                          struct hadb_tag *tag, struct hadb_error *err);
int hadb__wrapper_list(void *self, const struct hadb_call *call, const char *prefix,
                       const char *after, size_t max, struct hadb_object_list *out,
                       struct hadb_error *err);
int hadb__wrapper_delete_many(void *self, const struct hadb_call *call, const char *const *keys,
                              size_t len, struct hadb_error *err);
uint32_t hadb__wrapper_caps(void *self);
void hadb__wrapper_usage(void *self, struct hadb_storage_usage *out);

#define HADB__WRAPPER_METHODS                                                                     \
    .abi = HADB_STORAGE_ABI, .get = hadb__wrapper_get, .get_range = hadb__wrapper_get_range,      \
    .head = hadb__wrapper_head, .create = hadb__wrapper_create, .replace = hadb__wrapper_replace, \
    .list = hadb__wrapper_list, .delete_many = hadb__wrapper_delete_many,                         \
    .caps = hadb__wrapper_caps, .usage = hadb__wrapper_usage, .close = hadb__wrapper_close,       \
    .submit = hadb__wrapper_submit, .fd = hadb__wrapper_fd, .drive = hadb__wrapper_drive
#endif
