/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of a snapshot on their way: how many at a time, the first failure, a pool without a free worker. */
#include "tests/unit/node/transport_help.h"

#include "base/buf.h"
#include "base/error.h"
#include "node/uploads.h"

#define OBJECTS 20u

/* Where they are put: a shelf that can hold puts back, fail, and give back something else. */
struct shelf {
    struct hadb_mutex mu;
    struct hadb_cond changed;
    struct hadb_buf objects[OBJECTS];  /* mu */
    unsigned puts, inside, inside_max; /* mu */
    unsigned hold;                     /* mu: puts wait until so many are inside */
    unsigned fail_put;                 /* mu: the number of the put that fails, from 1 */
    unsigned spoil;                    /* mu: the object that is read with another byte, plus one */
};

static int shelf_put(void *arg, const struct hadb_snapshot_object *object, struct hadb_slice bytes,
                     struct hadb_error *err)
{
    struct shelf *shelf = arg;
    hadb_mutex_lock(&shelf->mu);
    bool fails = ++shelf->puts == shelf->fail_put;
    shelf->inside++;
    shelf->inside_max = HADB_MAX(shelf->inside_max, shelf->inside);
    hadb_cond_broadcast(&shelf->changed);
    while (shelf->inside_max < shelf->hold) {
        hadb_cond_wait(&shelf->changed, &shelf->mu);
    }
    int r = fails ? hadb_fail(err, HADB_EIO, "put %u fails", shelf->puts)
                  : hadb_buf_append(&shelf->objects[object->part], bytes.data, bytes.len);
    shelf->inside--;
    hadb_mutex_unlock(&shelf->mu);
    return r;
}

static int shelf_get(void *arg, const struct hadb_snapshot_object *object, struct hadb_buf *out,
                     struct hadb_error *err)
{
    struct shelf *shelf = arg;
    (void)err;
    hadb_mutex_lock(&shelf->mu);
    const struct hadb_buf *at = &shelf->objects[object->part];
    hadb_buf_clear(out);
    int r = hadb_buf_append(out, at->data, at->len);
    out->data[0] ^= shelf->spoil == object->part + 1;
    hadb_mutex_unlock(&shelf->mu);
    return r;
}

struct fixture {
    struct hadb_loop *loop;
    struct hadb_pool *pool;
    struct shelf shelf;
    struct hadb_uploads *uploads;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct hadb_pool_options options = {.threads_len = 2};
    assert_non_null(f);
    hadb_mutex_init(&f->shelf.mu, 0);
    hadb_cond_init(&f->shelf.changed);
    f->loop = loop_up();
    assert_int_equal(hadb_pool_start(f->loop, &options, &f->pool, NULL), 0);
    struct hadb_snapshot_io io = {.put = shelf_put, .get = shelf_get, .arg = &f->shelf};
    f->uploads = hadb_uploads_begin(f->pool, &io);
    assert_non_null(f->uploads);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hadb_uploads_end(f->uploads);
    assert_int_equal(hadb_pool_stop(f->pool, in_ms(WAIT_MS_MAX), NULL), 0);
    loop_down(f->loop);
    for (unsigned i = 0; i < OBJECTS; i++) {
        hadb_buf_deinit(&f->shelf.objects[i]);
    }
    hadb_cond_deinit(&f->shelf.changed);
    hadb_mutex_deinit(&f->shelf.mu);
    free(f);
    return 0;
}

/* The bytes are gone when put returns. */
static int put(struct fixture *f, unsigned i, struct hadb_error *err)
{
    char text[16];
    int len = snprintf(text, sizeof text, "object %u", i);
    struct hadb_snapshot_object object = {.part = i};
    int r = hadb_uploads_put(f->uploads, &object, (struct hadb_slice){text, (size_t)len}, err);
    memset(text, 0, sizeof text);
    return r;
}

static void objects__are_put_several_at_a_time_and_all_are_there_at_the_end(void **state)
{
    struct fixture *f = *state;
    struct hadb_error err = {0};
    f->shelf.hold = HADB_SNAPSHOT_PUTS_MAX; /* none is answered before so many are under way */
    for (unsigned i = 0; i < OBJECTS; i++) {
        assert_int_equal(put(f, i, &err), 0);
    }
    assert_int_equal(hadb_uploads_finish(f->uploads, &err), 0);
    assert_int_equal(f->shelf.inside_max, HADB_SNAPSHOT_PUTS_MAX);
    for (unsigned i = 0; i < OBJECTS; i++) {
        char text[16];
        snprintf(text, sizeof text, "object %u", i);
        assert_true(hadb_slice_eq(hadb_buf_slice(&f->shelf.objects[i]), hadb_slice_str(text)));
    }
    assert_false(hadb_uploads_failed(f->uploads));
}

static void failure__is_told_and_nothing_more_is_sent(void **state)
{
    struct fixture *f = *state;
    struct hadb_error err = {0};
    unsigned i = 0;
    f->shelf.fail_put = 3;
    while (i < OBJECTS && put(f, i, &err) == 0) {
        i++;
    }
    assert_int_equal(hadb_uploads_finish(f->uploads, &err), HADB_EIO);
    assert_string_equal(err.message, "put 3 fails");
    assert_true(hadb_uploads_failed(f->uploads));
    unsigned puts = f->shelf.puts;
    assert_int_equal(put(f, 0, &err), HADB_EIO);
    assert_int_equal(f->shelf.puts, puts);
    assert_true(puts <= 3 + HADB_SNAPSHOT_PUTS_MAX);
}

static void object__that_is_read_back_differently_is_a_failure(void **state)
{
    struct fixture *f = *state;
    struct hadb_error err = {0};
    f->shelf.spoil = 2;
    for (unsigned i = 0; i < 4; i++) {
        (void)put(f, i, &err);
    }
    assert_int_equal(hadb_uploads_finish(f->uploads, &err), HADB_ECORRUPT);
    assert_non_null(strstr(err.message, "does not give back"));
}

static void occupy(void *arg)
{
    (void)gate_reached(arg, 1, WAIT_MS_MAX);
}

static void full_pool__holds_up_nothing(void **state)
{
    struct fixture *f = *state;
    struct hadb_error err = {0};
    static struct hadb_job jobs[2]; /* they end after this function */
    static struct gate gate;
    gate_init(&gate);
    for (unsigned i = 0; i < 2; i++) {
        jobs[i] = (struct hadb_job){.run = occupy, .arg = &gate};
        assert_int_equal(hadb_pool_submit(f->pool, NULL, &jobs[i], NULL), 0);
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        assert_int_equal(put(f, i, &err), 0);
    }
    assert_int_equal(hadb_uploads_finish(f->uploads, &err), 0);
    assert_int_equal(f->shelf.puts, OBJECTS);
    hadb_uploads_end(f->uploads); /* what the pool still has is let go by it */
    f->uploads = NULL;
    gate_raise(&gate);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        T(objects__are_put_several_at_a_time_and_all_are_there_at_the_end),
        T(failure__is_told_and_nothing_more_is_sent),
        T(object__that_is_read_back_differently_is_a_failure),
        T(full_pool__holds_up_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
