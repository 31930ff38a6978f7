/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the stores that the contract suite runs on. Any failure ends the program: it is no test result. */
#include "tests/contract/storage/storage_world.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/thread.h"
#include "base/util.h"
#include "storage/wrap.h"
#include "storage/wrapper_private.h"
#include "tests/support/memfs.h"
#include "tests/support/support.h"

struct storage_world {
    char base[32];
    char wrappers[128];
    char url[HADB_PATH_BYTES_MAX + 64];
    char dir[HADB_PATH_BYTES_MAX]; /* "" = none */
    struct hadb_env env;
    struct test_faultfs faultfs;
    struct test_memfs *memfs;
    struct hadb_storage keep; /* keeps a named mem store alive */
    struct hadb_storage_counters counters;
};

static void must(int r, const struct hadb_error *err, const char *what)
{
    if (r != 0) {
        fprintf(stderr, "cannot set up %s: %d %s\n", what, r, err->message);
        abort();
    }
}

/* The address that with_s3.py gave, with an empty prefix of this world's own. */
static void s3_url(struct storage_world *w, unsigned serial)
{
    const char *given = getenv("HADB_TEST_S3_URL");
    HADB_ASSERT(given && strchr(given, '?')); /* run it through tests/support/with_s3.py */
    int len = (int)(strchr(given, '?') - given);
    snprintf(w->url, sizeof(w->url), "%.*s/%x-%u%s", len, given, (unsigned)getpid(), serial,
             given + len);
}

/* The address that with_storage.py gave, with a prefix of this world's own. */
static void http_url(struct storage_world *w, unsigned serial)
{
    static const char mark[] = "UNIQUE";
    const char *given = getenv("HADB_TEST_STORAGE_URL");
    HADB_ASSERT(given && strstr(given, mark)); /* run it through tests/support/with_storage.py */
    const char *place = strstr(given, mark);
    snprintf(w->url, sizeof(w->url), "%.*s%x-%u%s", (int)(place - given), given, (unsigned)getpid(),
             serial, place + strlen(mark));
}

struct storage_world *storage_world_new(const char *spec)
{
    static unsigned serial;
    struct storage_world *w = calloc(1, sizeof(*w));
    HADB_ASSERT(w);
    const char *colon = strchr(spec, ':');
    size_t base_len = colon ? (size_t)(colon - spec) : strlen(spec);
    HADB_ASSERT(base_len < sizeof(w->base));
    memcpy(w->base, spec, base_len);
    snprintf(w->wrappers, sizeof(w->wrappers), "%s", colon ? colon + 1 : "");
    w->env = *hadb_env_host();
    serial++;
    if (strcmp(w->base, "mem") == 0) {
        snprintf(w->url, sizeof(w->url), "mem:contract-%u", serial);
    } else if (strcmp(w->base, "slowmem") == 0) {
        snprintf(w->url, sizeof(w->url), "mem:contract-%u?latency_ms=1", serial);
    } else if (strcmp(w->base, "s3") == 0) {
        s3_url(w, serial);
    } else if (strcmp(w->base, "http") == 0) {
        http_url(w, serial);
    } else if (strcmp(w->base, "memfs") == 0) {
        w->memfs = test_memfs_new(serial);
        w->env.fs = test_memfs_fs(w->memfs);
        snprintf(w->url, sizeof(w->url), "file:///store");
    } else {
        HADB_ASSERT(strcmp(w->base, "file") == 0 || strcmp(w->base, "faultfs") == 0);
        if (strcmp(w->base, "faultfs") == 0) {
            w->env.fs = test_faultfs(&w->faultfs);
        }
        test_tmp_make(w->dir);
        snprintf(w->url, sizeof(w->url), "file://%s/made/later", w->dir);
    }
    storage_world_open(w, &w->keep);
    return w;
}

void storage_world_free(struct storage_world *w)
{
    hadb_storage_close(&w->keep);
    if (w->dir[0] != '\0') {
        test_tmp_remove(w->dir);
    }
    if (w->memfs) {
        test_memfs_free(w->memfs);
    }
    free(w);
}

/* "bare": the required methods only, so that dispatch has to supply the others. */
static const struct hadb__steps bare_steps = {0};

static const struct hadb_storage_ops bare_ops = {
    .abi = HADB_STORAGE_ABI,
    .scheme = "bare",
    .get = hadb__wrapper_get,
    .create = hadb__wrapper_create,
    .replace = hadb__wrapper_replace,
    .list = hadb__wrapper_list,
    .delete_many = hadb__wrapper_delete_many,
    .caps = hadb__wrapper_caps,
    .close = hadb__wrapper_close,
};

/* "submit": what can be submitted is, one request at a time; else, and where that is asked for, the blocking method. */
struct submitter {
    struct hadb__wrapper w;
    struct hadb_mutex mu;
};

struct submitted {
    struct hadb_storage_io io;
    bool done;
};

static void on_done(struct hadb_storage_io *io)
{
    ((struct submitted *)io->arg)->done = true;
}

static int submit(struct submitter *s, const struct hadb__request *q, struct hadb_error *err)
{
    static const enum hadb_storage_io_type types[HADB_STORAGE_OP_LEN] = {
        [HADB_STORAGE_OP_GET] = HADB_IO_GET,
        [HADB_STORAGE_OP_GET_RANGE] = HADB_IO_GET_RANGE,
        [HADB_STORAGE_OP_HEAD] = HADB_IO_HEAD,
        [HADB_STORAGE_OP_CREATE] = HADB_IO_CREATE,
        [HADB_STORAGE_OP_REPLACE] = HADB_IO_REPLACE,
    };
    struct submitted one = {.io = {.type = types[q->op],
                                   .call = q->call,
                                   .key = q->key,
                                   .offset = q->offset,
                                   .len = q->len,
                                   .body = q->body,
                                   .expected = q->expected,
                                   .out = q->out,
                                   .tag = q->tag,
                                   .meta = q->meta,
                                   .done = on_done,
                                   .arg = &one}};
    int r = one.io.type ? hadb_storage_submit(&s->w.inner, &one.io, err) : HADB_ENOTSUP;
    while (r == 0 && !one.done) {
        struct pollfd fd = {.fd = hadb_storage_fd(&s->w.inner), .events = POLLIN};
        (void)poll(&fd, 1, 1000);
        hadb_storage_drive(&s->w.inner);
    }
    if (r == 0 && one.io.result < 0 && err) {
        *err = one.io.err;
    }
    return r == 0 ? one.io.result : r;
}

static int submitter_send(void *self, const struct hadb__request *q, struct hadb_error *err)
{
    struct submitter *s = self;
    hadb_mutex_lock(&s->mu);
    int r = submit(s, q, err);
    hadb_mutex_unlock(&s->mu);
    return r == HADB_EBUSY || r == HADB_ENOTSUP ? hadb__request_send(&s->w.inner, q, err) : r;
}

static void submitter_deinit(void *self)
{
    hadb_mutex_deinit(&((struct submitter *)self)->mu);
}

static const struct hadb__steps submitter_steps = {.send = submitter_send,
                                                   .deinit = submitter_deinit};

static const struct hadb_storage_ops submitter_ops = {
    HADB__WRAPPER_METHODS,
    .scheme = "submit",
};

static int with_submit(struct storage_world *w, struct hadb_storage *s)
{
    struct submitter *self =
        hadb__wrapper_new(sizeof *self, s, &w->env, &submitter_ops, &submitter_steps, s);
    if (!self) {
        return HADB_ENOMEM;
    }
    hadb_mutex_init(&self->mu, 0);
    return 0;
}

static void wrap(struct storage_world *w, const char *name, struct hadb_storage *s)
{
    struct hadb_error err = {0};
    int r = HADB_EINVAL;
    if (strcmp(name, "retry") == 0) {
        r = hadb_storage_with_retry(s, NULL, &w->env, s, &err);
    } else if (strcmp(name, "breaker") == 0) {
        r = hadb_storage_with_breaker(s, NULL, &w->env, s, &err);
    } else if (strcmp(name, "prefix") == 0) {
        r = hadb_storage_with_prefix(s, "some/prefix", &w->env, s, &err);
    } else if (strcmp(name, "trace") == 0) {
        r = hadb_storage_with_trace(s, &w->counters, &w->env, s, &err);
    } else if (strcmp(name, "limit") == 0) {
        struct hadb_limit_options options = {.running_max = 3};
        r = hadb_storage_with_limit(s, &options, &w->env, s, &err);
    } else if (strcmp(name, "submit") == 0) {
        r = with_submit(w, s);
    } else if (strcmp(name, "bare") == 0) {
        r = hadb__wrapper_new(sizeof(struct hadb__wrapper), s, &w->env, &bare_ops, &bare_steps, s)
                ? 0
                : HADB_ENOMEM;
    }
    must(r, &err, name);
}

void storage_world_open(struct storage_world *w, struct hadb_storage *out)
{
    struct hadb_error err = {0};
    must(hadb_storage_open(w->url, &w->env, out, &err), &err, w->url);
    char names[sizeof(w->wrappers)];
    memcpy(names, w->wrappers, sizeof(names));
    while (names[0] != '\0') { /* the innermost is named last */
        char *comma = strrchr(names, ',');
        wrap(w, comma ? comma + 1 : names, out);
        *(comma ? comma : names) = '\0';
    }
}

const struct hadb_env *storage_world_env(const struct storage_world *w)
{
    return &w->env;
}
