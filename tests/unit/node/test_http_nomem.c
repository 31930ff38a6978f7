/* SPDX-License-Identifier: Apache-2.0 */
/* Out of memory at every step of the transport's life: each request still gets exactly one verdict, nothing
 * hangs, and with memory back everything works. Failing are the allocations of base/alloc.h; those
 * inside libmicrohttpd and libcurl are not ours to fail. */
#include "tests/unit/node/client_rig.h"

#define STEPS_MAX 400

static int countdown; /* atomic: allocations until the first failure; negative = none fail */
static bool sticky;   /* all later ones fail too; set before the threads start */
static int failures;  /* atomic */

static void *failing_realloc(void *arg, void *ptr, size_t size)
{
    (void)arg;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    int left = __atomic_load_n(&countdown, __ATOMIC_RELAXED);
    if (left >= 0) {
        left = __atomic_sub_fetch(&countdown, 1, __ATOMIC_RELAXED);
        if (left == -1 || (sticky && left < 0 && left > -1000000)) {
            if (sticky) {
                __atomic_store_n(&countdown, 0, __ATOMIC_RELAXED);
            }
            __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
            return NULL;
        }
    }
    return realloc(ptr, size);
}

static void arm(int step)
{
    __atomic_store_n(&failures, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&countdown, step, __ATOMIC_RELAXED);
}

static void disarm(void)
{
    __atomic_store_n(&countdown, -1, __ATOMIC_RELAXED);
}

static void on_stream_closed(void *arg, int code)
{
    (void)arg;
    (void)code;
}

/* Echoes, refuses or streams three bytes. */
static void answer(void *arg, struct hadb_http_exchange *x, const struct hadb_http_request *request)
{
    struct hadb_http_stream_options options = {
        .content_type = "text/plain", .closed = on_stream_closed, .arg = arg};
    if (hadb_slice_eq(request->path, hadb_slice_str("/stream"))) {
        struct hadb_http_stream *stream = hadb_http_stream_begin(x, &options);
        if (stream && hadb_http_stream_write(stream, hadb_slice_str("abc")) == 0) {
            hadb_http_stream_end(stream);
        }
    } else if (hadb_slice_eq(request->path, hadb_slice_str("/error"))) {
        hadb_http_reply_error(x, 503, HADB_EBUSY, NULL, 0, "busy");
    } else {
        struct hadb_buf body = hadb_http_take_body(x);
        hadb_http_reply_take(x, 200, NULL, 0, &body);
    }
}

/* One life of server and client; true if every request went through. */
static bool live(unsigned *refused_starts)
{
    static const char *const paths[] = {"/echo", "/error", "/stream"};
    static char body[70000];
    struct asker asker = {0};
    struct hadb_http_server *server = NULL;
    struct hadb_http_server_options server_options = {
        .listen = "127.0.0.1:0", .handler = answer, .token = "t"};
    struct hadb_http_client_options client_options = {.token = "t"};
    bool whole = true;
    if (hadb_loop_start(NULL, &asker.loop, NULL) != 0) {
        ++*refused_starts;
        return false;
    }
    if (hadb_http_server_start(asker.loop, &server_options, &server, NULL) == 0 &&
        hadb_http_client_start(asker.loop, &client_options, &asker.client, NULL) == 0) {
        for (size_t i = 0; i < HADB_LEN(paths); i++) {
            char url[512];
            snprintf(url, sizeof(url), "http://%s%s", hadb_http_server_address(server), paths[i]);
            struct asked *asked = asked_new(&asker, i == 0 ? "PUT" : "GET", url);
            asked->options.body = i == 0 ? hadb_slice(body, sizeof(body)) : hadb_slice("", 0);
            asked->options.body_copy = true;
            asked->options.idle_timeout_ms = WAIT_MS_MAX;
            hadb_loop_call(asker.loop, start_asked, asked);
            if (asked->start_r == 0) {
                asked_wait(asked);
            } else {
                asked->done.count = 1; /* for asked_free(): nothing was started */
            }
            whole &= asked->start_r == 0 && asked->code == 0;
            asked_free(asked);
        }
    } else {
        whole = false;
        ++*refused_starts;
    }
    hadb_http_client_stop(asker.client);
    hadb_http_server_stop(server);
    loop_down(asker.loop);
    return whole;
}

static void try_all_steps(bool all_later)
{
    static const struct hadb_allocator failing = {.realloc = failing_realloc};
    unsigned refused_starts = 0;
    unsigned hurt = 0;
    int step = 0;
    sticky = all_later;
    disarm();
    hadb_allocator_set(&failing);
    for (; step < STEPS_MAX; step++) {
        arm(step);
        bool whole = live(&refused_starts);
        int failed = __atomic_load_n(&failures, __ATOMIC_RELAXED);
        disarm();
        if (failed == 0) {
            assert_true(whole); /* past the last allocation: nothing failed */
            break;
        }
        hurt += !whole;
    }
    assert_true(step < STEPS_MAX);
    assert_true(step > 10);
    assert_true(refused_starts > 2);
    assert_true(hurt > refused_starts);
    assert_true(live(&refused_starts));
    hadb_allocator_set(NULL);
}

static void transport__survives_one_failed_allocation_at_every_step(void **state)
{
    (void)state;
    try_all_steps(false);
}

static void transport__survives_having_no_memory_from_every_step_on(void **state)
{
    (void)state;
    try_all_steps(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transport__survives_one_failed_allocation_at_every_step),
        cmocka_unit_test(transport__survives_having_no_memory_from_every_step_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
