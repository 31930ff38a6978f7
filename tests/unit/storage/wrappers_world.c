/* SPDX-License-Identifier: Apache-2.0 */
/* See the header. Thread: the test's; start() in its blocking form has one more per asker. */
#include "tests/unit/storage/wrappers_world.h"

#include <poll.h>

uint64_t fake_now(void *arg)
{
    return __atomic_load_n(&((struct fixture *)arg)->now_ms, __ATOMIC_RELAXED);
}

static uint64_t fake_now_ns(void *arg)
{
    return fake_now(arg) * 1000000;
}

void fake_sleep(void *arg, uint64_t ms, const struct hadb_call *call)
{
    struct fixture *f = arg;
    (void)call;
    f->slept_ms[f->sleeps++ % SCRIPT_LEN_MAX] = ms;
    __atomic_add_fetch(&f->now_ms, ms, __ATOMIC_RELAXED);
}

static void keep_event(void *arg, const struct hadb_trace_event *event)
{
    struct fixture *f = arg;
    f->events[f->events_len++ % HADB_LEN(f->events)] = *event;
}

static void keep_log(void *arg, enum hadb_log_level level, const char *component,
                     const char *database, const char *text)
{
    struct fixture *f = arg;
    (void)component;
    size_t used = strlen(f->log);
    snprintf(f->log + used, sizeof(f->log) - used, "%d %s %s\n", (int)level,
             database ? database : "-", text);
}

static int setup(void **state, bool async)
{
    struct fixture *f = calloc(1, sizeof(*f));
    script_init(&f->script);
    f->s = script_storage(&f->script);
    f->env = *hadb_env_host();
    f->env.now_ms = fake_now;
    f->env.now_ns = fake_now_ns;
    f->env.trace = keep_event;
    f->env.log = keep_log;
    f->env.log_level = HADB_LOG_TRACE;
    f->env.arg = f;
    /* The host's random source ignores its argument. */
    f->now_ms = 1000;
    f->async = async;
    *state = f;
    return 0;
}

int setup_blocking(void **state)
{
    return setup(state, false);
}

int setup_async(void **state)
{
    return setup(state, true);
}

int teardown(void **state)
{
    struct fixture *f = *state;
    hadb_storage_close(&f->s);
    assert_int_equal(f->script.closed, 1); /* every wrapper closes what it owns, once */
    hadb_buf_deinit(&f->got);
    script_deinit(&f->script);
    free(f);
    return 0;
}

static const struct hadb_tag any_tag = {"tag"};

/* ---- submitted ---- */

static void on_done(struct hadb_storage_io *io)
{
    struct asker *a = io->arg;
    assert_true(a->f->driving); /* never from inside submit */
    assert_true(a->waits);
    a->waits = false;
    a->result = io->result;
}

void turn(struct fixture *f)
{
    if (!f->async) {
        return;
    }
    if (f->real_clock) {
        struct pollfd fd = {.fd = hadb_storage_fd(&f->s), .events = POLLIN};
        assert_true(fd.fd >= 0);
        (void)poll(&fd, 1, 1000);
    }
    f->driving = true;
    hadb_storage_drive(&f->s);
    f->driving = false;
}

static int submit(struct asker *a)
{
    a->io.call = a->call;
    a->io.done = on_done;
    a->io.arg = a;
    a->waits = true;
    int r = hadb_storage_submit(&a->f->s, &a->io, &a->f->err);
    if (r != 0) {
        a->waits = false;
        a->result = r;
    }
    return r;
}

/* Time passes while it waits; what passes between two requests to the script is a sleep. */
static int run(struct asker *a)
{
    struct fixture *f = a->f;
    uint64_t asked_ms = fake_now(f);
    size_t calls = script_calls(&f->script);
    bool first = true;
    if (submit(a) != 0) {
        return a->result;
    }
    while (a->waits) {
        if (script_calls(&f->script) != calls) {
            if (!first) {
                f->slept_ms[f->sleeps++ % SCRIPT_LEN_MAX] = fake_now(f) - asked_ms;
            }
            first = false;
            calls = script_calls(&f->script);
            asked_ms = fake_now(f);
        } else {
            f->now_ms++;
        }
        turn(f);
    }
    f->err = a->io.err;
    return a->result;
}

static int ask_async(struct fixture *f, enum hadb_storage_op op, const struct hadb_call *call)
{
    static const enum hadb_storage_io_type types[] = {
        [HADB_STORAGE_OP_GET] = HADB_IO_GET,
        [HADB_STORAGE_OP_GET_RANGE] = HADB_IO_GET_RANGE,
        [HADB_STORAGE_OP_HEAD] = HADB_IO_HEAD,
        [HADB_STORAGE_OP_CREATE] = HADB_IO_CREATE,
        [HADB_STORAGE_OP_REPLACE] = HADB_IO_REPLACE,
    };
    struct asker a = {.f = f, .call = call};
    bool reads = op == HADB_STORAGE_OP_GET || op == HADB_STORAGE_OP_GET_RANGE;
    bool writes = op == HADB_STORAGE_OP_CREATE || op == HADB_STORAGE_OP_REPLACE;
    a.io = (struct hadb_storage_io){
        .type = types[op],
        .key = "key",
        .offset = op == HADB_STORAGE_OP_GET_RANGE ? 2 : 0,
        .len = op == HADB_STORAGE_OP_GET_RANGE ? 4 : 0,
        .body = writes ? hadb_slice_str("body") : (struct hadb_slice){0},
        .out = reads ? &f->got : NULL,
        .expected = op == HADB_STORAGE_OP_REPLACE ? &any_tag : NULL,
        .meta = op == HADB_STORAGE_OP_HEAD ? &a.meta : NULL,
    };
    return run(&a);
}

/* ---- either form ---- */

/* One request of a kind; the same for all kinds. */
int ask(struct fixture *f, enum hadb_storage_op op, const struct hadb_call *call)
{
    struct hadb_object_meta meta = {0};
    struct hadb_object_list list = {0};
    const char *key = "key";
    struct hadb_slice body = hadb_slice_str("body");
    int r = HADB_EINVAL;
    f->err = (struct hadb_error){0};
    if (f->async && op < HADB_STORAGE_OP_LIST) {
        return ask_async(f, op, call);
    }
    switch (op) {
    case HADB_STORAGE_OP_GET:
        return hadb_storage_get(&f->s, call, key, &f->got, NULL, &f->err);
    case HADB_STORAGE_OP_GET_RANGE:
        return hadb_storage_get_range(&f->s, call, key, 2, 4, &f->got, &f->err);
    case HADB_STORAGE_OP_HEAD:
        return hadb_storage_head(&f->s, call, key, &meta, &f->err);
    case HADB_STORAGE_OP_CREATE:
        return hadb_storage_create(&f->s, call, key, body, NULL, &f->err);
    case HADB_STORAGE_OP_REPLACE:
        return hadb_storage_replace(&f->s, call, key, body, &any_tag, NULL, &f->err);
    case HADB_STORAGE_OP_LIST:
        r = hadb_storage_list(&f->s, call, key, "", 10, &list, &f->err);
        hadb_object_list_deinit(&list);
        return r;
    case HADB_STORAGE_OP_DELETE_MANY:
        return hadb_storage_delete_many(&f->s, call, &key, 1, &f->err);
    case HADB_STORAGE_OP_LEN:
        break;
    }
    return r;
}

/* On its own thread, with no error text, so that the fixture is not shared. */
static void ask_elsewhere(void *arg)
{
    struct asker *a = arg;
    a->result = hadb_storage_head(&a->f->s, a->call, a->key, &a->meta, NULL);
}

void start(struct asker *a, struct fixture *f, const char *key, const struct hadb_call *call)
{
    *a = (struct asker){.f = f, .key = key, .call = call};
    if (f->async) {
        a->io = (struct hadb_storage_io){.type = HADB_IO_HEAD, .key = key, .meta = &a->meta};
        submit(a);
        return;
    }
    assert_int_equal(hadb_thread_start(&a->thread, "asker", ask_elsewhere, a, &f->err), 0);
}

void end(struct asker *a)
{
    if (!a->f->async) {
        hadb_thread_join(&a->thread);
    }
    while (a->waits) {
        turn(a->f);
    }
}

void await(struct fixture *f, unsigned inside)
{
    if (!f->async) {
        script_await(&f->script, inside);
    }
    while (f->script.inside < inside) {
        turn(f);
    }
}
