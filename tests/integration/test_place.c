/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a node runs: in a process that forks, beside another node of its name, on a network file system.
 */
#include "tests/integration/cluster.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "base/thread.h"
#include "tests/support/support.h"

static struct tc tc;

/* ---- a log to be searched ---- */

static struct {
    struct hadb_mutex mu;
    char text[65536];
    size_t len;
} lines;

static void take_line(void *arg, enum hadb_log_level level, const char *component,
                      const char *database, const char *text)
{
    (void)arg, (void)level, (void)component, (void)database;
    hadb_mutex_lock(&lines.mu);
    size_t room = sizeof lines.text - lines.len;
    int n = snprintf(lines.text + lines.len, room, "%s\n", text);
    lines.len += n > 0 && (size_t)n < room ? (size_t)n : 0;
    hadb_mutex_unlock(&lines.mu);
}

static unsigned lines_with(const char *word)
{
    unsigned found = 0;
    hadb_mutex_lock(&lines.mu);
    for (const char *at = lines.text; (at = strstr(at, word)) != NULL; at++) {
        found++;
    }
    hadb_mutex_unlock(&lines.mu);
    return found;
}

/* ---- fork ---- */

/* In the child: the first step that does not answer as it must, 0 = none. */
static int in_child(struct hadb_node *node, struct hadb_db *db)
{
    struct hadb_error err = {0};
    struct hadb_buf text = {0};
    struct hadb_db *other = NULL;
    struct hadb_db_info info;
    struct hadb_slice k = hadb_slice_str("k");
    alarm(20); /* a call that hangs */
    int step = 1;
#define MUST(condition)     \
    do {                    \
        if (!(condition)) { \
            return step;    \
        }                   \
        step++;             \
    } while (0)
    MUST(hadb_kv_put(db, k, k, NULL, NULL, &err) == HADB_ESTATE);
    MUST(strstr(err.message, "fork") != NULL);
    MUST(hadb_kv_get(db, k, NULL, &text, NULL, &err) == HADB_ESTATE);
    MUST(hadb_kv_put_async(db, k, k, NULL, NULL, NULL, &err) == HADB_ESTATE);
    MUST(hadb_db_wait_ready(db, 1000, NULL) == HADB_ESTATE);
    hadb_db_info(db, &info);
    MUST(info.role == HADB_ROLE_HALTED && strstr(info.reason, "fork"));
    if (node) {
        MUST(hadb_db_open(node, "other", NULL, &other, &err) == HADB_ESTATE);
        MUST(hadb_node_status(node, &text, &err) == HADB_ESTATE);
        MUST(hadb_node_metrics(node, &text, &err) == HADB_ESTATE);
        MUST(hadb_db_handoff(db, NULL, 1000, &err) == HADB_ESTATE);
        MUST(hadb_db_snapshot(db, &err) == HADB_ESTATE);
        hadb_node_close(node, 1000);
    } else {
        hadb_db_close(db, 1000);
    }
    return 0;
}

static void fork_and_check(struct hadb_node *node, struct hadb_db *db)
{
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(in_child(node, db));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_child__gets_an_error_and_harms_nothing(void **state)
{
    (void)state;
    tc_init(&tc, false);
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    tc_put(&tc, 0, "k", "before");
    fork_and_check(tc.nodes[0].node, tc.nodes[0].db);
    assert_string_equal(tc_get(&tc, 0, "k", HADB_READ_LINEARIZABLE), "before");
    tc_put(&tc, 0, "k", "after");
    tc_close(&tc, 0, 1000);
    tc_open(&tc, 0); /* the folder is whole, and free */
    tc_ready(&tc, 0);
    assert_string_equal(tc_get(&tc, 0, "k", HADB_READ_LINEARIZABLE), "after");
}

static void a_child__leaves_a_local_database_alone(void **state)
{
    (void)state;
    char dir[HADB_PATH_BYTES_MAX + 16];
    struct hadb_db *db = NULL;
    struct hadb_slice k = hadb_slice_str("k");
    tc_init(&tc, true);
    snprintf(dir, sizeof dir, "%s/local", tc.dir);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(hadb_kv_open_local(dir, "kv", NULL, &db, NULL), 0);
        assert_int_equal(hadb_kv_put(db, k, k, NULL, NULL, NULL), 0);
        fork_and_check(NULL, db);
        assert_int_equal(hadb_kv_put(db, hadb_slice_str("l"), k, NULL, NULL, NULL), 0);
        hadb_db_close(db, 0);
    }
    assert_int_equal(hadb_kv_open_local(dir, "kv", NULL, &db, NULL), 0);
    assert_int_equal(hadb_kv_get(db, k, NULL, NULL, NULL, NULL), 0);
    hadb_db_close(db, 0);
}

static void the_library__installs_no_signal_handlers(void **state)
{
    (void)state;
    struct sigaction before[65], now;
    sigset_t mask_before, mask;
    for (int sig = 1; sig < 65; sig++) {
        memset(&before[sig], 0, sizeof before[sig]);
        sigaction(sig, NULL, &before[sig]);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    tc_init(&tc, true);
    tc_open(&tc, 0);
    tc_open(&tc, 1);
    tc_ready(&tc, 0);
    tc_ready(&tc, 1);
    tc_put(&tc, 1, "k", "forwarded");
    for (int sig = 1; sig < 65; sig++) {
        memset(&now, 0, sizeof now);
        sigaction(sig, NULL, &now);
        assert_true(now.sa_handler == before[sig].sa_handler);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (int sig = 1; sig < 65; sig++) {
        assert_int_equal(sigismember(&mask, sig), sigismember(&mask_before, sig));
    }
}

/* ---- two nodes of one name ---- */

static struct hadb_node *open_namesake(const char *folder, const struct hadb_env *env)
{
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_error err = {0};
    struct hadb_node *node = NULL;
    char dir[HADB_PATH_BYTES_MAX + 16];
    snprintf(dir, sizeof dir, "%s/%s", tc.dir, folder);
    options.name = "same";
    options.data_dir = dir;
    options.storage_url = tc.store;
    options.lease_url = tc.lease;
    options.listen = "127.0.0.1:0";
    options.ttl_ms = 300;
    options.env = env;
    if (hadb_node_open(&options, &node, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return node;
}

static int readyz(struct hadb_node *node, char *body, size_t cap)
{
    struct tc_reply reply;
    int status = tc_http(hadb_node_address(node), "GET", "/readyz", NULL, NULL, 0, &reply);
    snprintf(body, cap, "%s", reply.body ? reply.body : "");
    tc_reply_deinit(&reply);
    return status;
}

static void wait_readyz(struct hadb_node *node, int status, char *body, size_t cap)
{
    uint64_t end = tc_now_ms() + TC_WAIT_MS;
    while (readyz(node, body, cap) != status) {
        assert_true(tc_now_ms() < end);
        tc_sleep_ms(5);
    }
}

static void a_second_node_of_a_name__says_so_once_and_waits_until_the_name_is_free(void **state)
{
    (void)state;
    static struct hadb_env env;
    char body[512];
    env = *hadb_env_host();
    env.log = take_line;
    env.log_level = HADB_LOG_INFO;
    tc_init(&tc, true);
    struct hadb_node *first = open_namesake("a", &env);
    wait_readyz(first, 200, body, sizeof body);
    struct hadb_node *second = open_namesake("b", &env);
    wait_readyz(second, 503, body, sizeof body);
    assert_non_null(strstr(body, "node name same is in use"));
    assert_non_null(strstr(body, hadb_node_address(first)));
    for (uint64_t end = tc_now_ms() + 1500; tc_now_ms() < end; tc_sleep_ms(50)) { /* five TTLs */
        assert_int_equal(readyz(first, body, sizeof body), 200);
        assert_int_equal(readyz(second, body, sizeof body), 503);
    }
    assert_int_equal(lines_with("node name same"), 1);
    hadb_node_close(first, 1000);
    wait_readyz(second, 200, body, sizeof body);
    assert_int_equal(lines_with("the node name same is free again"), 1);
    hadb_node_close(second, 1000);
}

/* ---- network file systems ---- */

static void a_network_file_system__is_named_once_for_each_folder(void **state)
{
    (void)state;
    static struct test_faultfs network = {.network = "nfs"};
    static struct hadb_env env;
    env = *hadb_env_host();
    env.log = take_line;
    env.fs = test_faultfs(&network);
    tc_init(&tc, false);
    tc.env = &env;
    tc_open(&tc, 0);
    tc_ready(&tc, 0);
    tc_put(&tc, 0, "k", "v"); /* it is a warning, no more */
    tc_close(&tc, 0, 1000);
    assert_int_equal(lines_with("lies on nfs"), 3);
    assert_int_equal(lines_with("data folder "), 1);
    assert_int_equal(lines_with("storage folder "), 1);
    assert_int_equal(lines_with("lease folder "), 1);
}

static int setup(void **state)
{
    (void)state;
    lines.len = 0;
    lines.text[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tc_deinit(&tc);
    return 0;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_child__gets_an_error_and_harms_nothing),
        T(a_child__leaves_a_local_database_alone),
        T(the_library__installs_no_signal_handlers),
        T(a_second_node_of_a_name__says_so_once_and_waits_until_the_name_is_free),
        T(a_network_file_system__is_named_once_for_each_folder),
    };
    hadb_mutex_init(&lines.mu, 0);
    return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
