/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes ask of the lease store: nothing but renewals while streams are up, and without them they wait for news (4.6). */
#include "tests/integration/cluster.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/env.h"
#include "base/error.h"

#define DBS 8u

static struct tc tc;

/* A lease store in front of @inner, of one node. */
struct spy {
    struct hadb_lease_ops ops;
    struct hadb_lease inner;
    int deaf;    /* atomic: its watch fails */
    int waiting; /* atomic: watches under way */
};

static int spy_read(void *self, const struct hadb_call *call, const char *key, struct hadb_buf *out,
                    struct hadb_tag *tag, struct hadb_error *err)
{
    return hadb_lease_read(&((struct spy *)self)->inner, call, key, out, tag, err);
}

static int spy_write(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_slice record, const struct hadb_tag *expected,
                     struct hadb_tag *tag, struct hadb_error *err)
{
    struct spy *spy = self;
    return hadb_lease_write_if_match(&spy->inner, call, key, record, expected, tag, err);
}

static int spy_watch(void *self, const struct hadb_call *call, const char *key,
                     const struct hadb_tag *seen, struct hadb_error *err)
{
    struct spy *spy = self;
    if (__atomic_load_n(&spy->deaf, __ATOMIC_SEQ_CST)) {
        return hadb_fail(err, HADB_EUNAVAIL, "this store cannot tell");
    }
    __atomic_fetch_add(&spy->waiting, 1, __ATOMIC_SEQ_CST);
    int r = hadb_lease_watch(&spy->inner, call, key, seen, err);
    __atomic_fetch_sub(&spy->waiting, 1, __ATOMIC_SEQ_CST);
    return r;
}

static void spy_close(void *self)
{
    hadb_lease_close(&((struct spy *)self)->inner);
}

static void spy_open(struct spy *spy, bool watches)
{
    struct hadb_error err = {0};
    *spy = (struct spy){.ops = {.abi = HADB_LEASE_ABI,
                                .scheme = "spy",
                                .read = spy_read,
                                .write_if_match = spy_write,
                                .watch = watches ? spy_watch : NULL,
                                .close = spy_close}};
    if (hadb_lease_open(tc.lease, NULL, &spy->inner, &err) < 0) {
        fail_msg("%s", err.message);
    }
}

/* As tc_open, with a lease store of its own, and an address for others. */
static void open_with(unsigned i, struct spy *spy, const char *advertise)
{
    char name[16], dir[HADB_PATH_BYTES_MAX + 16];
    struct hadb_lease lease = {spy ? &spy->ops : NULL, spy};
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_error err = {0};
    snprintf(name, sizeof name, "n%u", i);
    snprintf(dir, sizeof dir, "%s/%s", tc.dir, name);
    options.name = name;
    options.data_dir = dir;
    options.storage_url = tc.store;
    options.lease_url = spy ? NULL : tc.lease;
    options.lease = spy ? &lease : NULL;
    options.listen = "127.0.0.1:0";
    options.advertise = advertise;
    options.ttl_ms = tc.ttl_ms;
    if (hadb_node_open(&options, &tc.nodes[i].node, &err) < 0 ||
        hadb_db_open(tc.nodes[i].node, TC_DB, &tc.db_options, &tc.nodes[i].db, &err) < 0) {
        fail_msg("node %u: %s", i, err.message);
    }
    snprintf(tc.nodes[i].address, sizeof tc.nodes[i].address, "%s",
             hadb_node_address(tc.nodes[i].node));
}

static int setup(void **state)
{
    (void)state;
    tc_init(&tc, true);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tc_deinit(&tc);
    return 0;
}

static void wait_metric(unsigned i, const char *name, uint64_t least)
{
    uint64_t end = tc_now_ms() + TC_WAIT_MS;
    while (tc_metric(&tc, i, name) < least) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(5);
    }
}

/* Connections end in its backlog, and nobody ever answers: neither a stream nor a refusal. */
static int silent_place(char address[64])
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&at, len) == 0 && listen(fd, 64) == 0 &&
                getsockname(fd, (struct sockaddr *)&at, &len) == 0);
    snprintf(address, 64, "127.0.0.1:%u", ntohs(at.sin_port));
    return fd;
}

/* Three nodes; each leads some databases and follows the others in the rest. */
static void an_idle_cluster__asks_for_one_renewal_per_node_and_third_and_nothing_else(void **state)
{
    (void)state;
    static struct hadb_db *dbs[3][DBS];
    struct hadb_error err = {0};
    for (unsigned i = 0; i < 3; i++) {
        tc_open(&tc, i);
        tc_ready(&tc, i);
    }
    for (unsigned k = 0; k < DBS; k++) {
        for (unsigned n = 0; n < 3; n++) { /* who opens it first leads it */
            unsigned i = (k + n) % 3;
            char name[16];
            snprintf(name, sizeof name, "idle%u", k);
            if (hadb_db_open(tc.nodes[i].node, name, &tc.db_options, &dbs[i][k], &err) < 0 ||
                hadb_db_wait_ready(dbs[i][k], TC_WAIT_MS, &err) < 0) {
                fail_msg("%s on n%u: %s", name, i, err.message);
            }
        }
    }
    /* Every node has streams to both others, and what they asked when they opened has come back. */
    uint64_t asked[3] = {0}, renewed[3], read[3], quiet = 0, end = tc_now_ms() + TC_WAIT_MS;
    while (quiet < 6) { /* heartbeats */
        uint64_t beats = tc_metric(&tc, 0, "stream_beats_sent");
        wait_metric(0, "stream_beats_sent", beats + 2); /* one to each follower */
        assert_true(tc_now_ms() < end);
        quiet++;
        for (unsigned i = 0; i < 3; i++) {
            uint64_t now = tc_metric(&tc, i, "storage_requests");
            quiet = now == asked[i] ? quiet : 0;
            asked[i] = now;
        }
    }
    uint64_t from_ms = tc_now_ms();
    for (unsigned i = 0; i < 3; i++) {
        renewed[i] = tc_metric(&tc, i, "lease_renewals");
        read[i] = tc_metric(&tc, i, "lease_reads");
    }
    wait_metric(0, "lease_renewals", renewed[0] + 6); /* two TTLs */
    for (unsigned i = 0; i < 3; i++) {
        uint64_t renewals = tc_metric(&tc, i, "lease_renewals") - renewed[i];
        uint64_t thirds = (tc_now_ms() - from_ms) * 3 / tc.ttl_ms;
        assert_in_range(renewals, 1, thirds + 1);
        assert_int_equal(tc_metric(&tc, i, "lease_reads"), read[i]);
        assert_int_equal(tc_metric(&tc, i, "lease_waits"), 0);
        assert_int_equal(tc_metric(&tc, i, "storage_requests"), asked[i]);
    }
}

/* Writes the record of @node anew, as its node does when it renews it: another tag, the same bytes. */
static void touch(const char *node)
{
    struct hadb_lease lease = {0};
    struct hadb_call call = hadb_call_within(hadb_env_host(), TC_WAIT_MS);
    struct hadb_buf bytes = {0};
    struct hadb_error err = {0};
    struct hadb_tag tag;
    assert_int_equal(hadb_lease_open(tc.lease, NULL, &lease, &err), 0);
    int r;
    do { /* its node may be quicker */
        r = hadb_lease_read(&lease, &call, node, &bytes, &tag, &err);
        assert_int_equal(r, 0);
        r = hadb_lease_write_if_match(&lease, &call, node, hadb_buf_slice(&bytes), &tag, NULL,
                                      &err);
    } while (r == HADB_CAS_LOST);
    assert_int_equal(r, 0);
    hadb_buf_deinit(&bytes);
    hadb_lease_close(&lease);
}

/* n0 leads at an address that never answers; n1 follows it by storage and lease store alone. */
static int start_without_stream(struct spy *spy)
{
    char address[64];
    int fd = silent_place(address);
    open_with(0, NULL, address);
    tc_ready(&tc, 0);
    open_with(1, spy, NULL);
    return fd;
}

static void
a_follower_without_a_stream__reads_the_leaders_record_as_soon_as_it_changes(void **state)
{
    (void)state;
    static struct spy spy; /* outlives a test that fails */
    tc.ttl_ms = 9000;      /* it would be read every 3 s */
    spy_open(&spy, true);
    int fd = start_without_stream(&spy);
    for (int i = 0; i < 3; i++) {
        wait_metric(1, "lease_waits", 1);
        uint64_t end = tc_now_ms() + TC_WAIT_MS;
        while (__atomic_load_n(&spy.waiting, __ATOMIC_SEQ_CST) == 0) {
            assert_true(tc_now_ms() < end);
            tc_sleep_ms(2);
        }
        uint64_t reads = tc_metric(&tc, 1, "lease_reads");
        uint64_t from_ms = tc_now_ms();
        touch("node/n0");
        wait_metric(1, "lease_reads", reads + 1);
        assert_in_range(tc_now_ms() - from_ms, 0, 1500);
    }
    /* Nothing changes, and yet it ends at once. */
    uint64_t from_ms = tc_now_ms();
    tc_close(&tc, 1, 0);
    assert_in_range(tc_now_ms() - from_ms, 0, 2000);
    close(fd);
}

static void a_lease_store_that_cannot_tell_just_now__is_read_every_third_of_the_ttl(void **state)
{
    (void)state;
    static struct spy spy; /* outlives a test that fails */
    tc.ttl_ms = 1500;
    spy_open(&spy, true);
    spy.deaf = 1;
    int fd = start_without_stream(&spy);
    wait_metric(1, "lease_waits", 2);
    uint64_t reads = tc_metric(&tc, 1, "lease_reads");
    uint64_t from_ms = tc_now_ms();
    wait_metric(1, "lease_reads", reads + 4);
    assert_in_range(tc_now_ms() - from_ms, 3 * 500, TC_WAIT_MS);
    assert_int_equal(tc_metric(&tc, 1, "elections_won"), 0); /* nobody thought it dead */
    __atomic_store_n(&spy.deaf, 0, __ATOMIC_SEQ_CST);
    uint64_t end = tc_now_ms() + TC_WAIT_MS;
    while (__atomic_load_n(&spy.waiting, __ATOMIC_SEQ_CST) == 0) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(2);
    }
    close(fd);
}

static unsigned threads_named(const char *name)
{
    unsigned len = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], comm[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *file = fopen(path, "re");
        if (file && fgets(comm, sizeof comm, file)) {
            len += strncmp(comm, name, strlen(name)) == 0;
        }
        if (file) {
            fclose(file);
        }
    }
    closedir(tasks);
    return len;
}

/* However many databases and leaders there are; none where the store cannot tell. */
static void waiting__takes_one_thread_of_a_node_and_none_without_a_watch(void **state)
{
    (void)state;
    static struct spy spy; /* outlives a test that fails */
    spy_open(&spy, false);
    open_with(0, &spy, NULL);
    assert_int_equal(threads_named("hadb-watch"), 0);
    tc_open(&tc, 1);
    assert_int_equal(threads_named("hadb-watch"), 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(an_idle_cluster__asks_for_one_renewal_per_node_and_third_and_nothing_else),
        T(a_follower_without_a_stream__reads_the_leaders_record_as_soon_as_it_changes),
        T(a_lease_store_that_cannot_tell_just_now__is_read_every_third_of_the_ttl),
        T(waiting__takes_one_thread_of_a_node_and_none_without_a_watch),
    };
    return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
