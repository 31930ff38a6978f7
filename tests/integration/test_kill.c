/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes as processes that are killed, stopped and started again, over folders. The writer is a client over HTTP. */
#include "tests/integration/cluster.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"

static struct tc tc;

/* Writes through node @i until it is acknowledged, always under one request id, as a client should. */
static void write_key(unsigned i, const char *key, char version[64])
{
    struct hadb_id id;
    char text[HADB_ID_TEXT_BYTES], headers[160], path[128];
    hadb_id_v7(hadb_env_host(), &id);
    hadb_id_format(&id, text);
    snprintf(headers, sizeof headers, "Hadb-Request-Id: %s\r\nHadb-Deadline-Ms: 3000\r\n", text);
    /* A second execution would be refused: the key is there. */
    snprintf(path, sizeof path, "/v1/db/" TC_DB "/kv/%s?if_absent", key);
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_now_ms() < end; i = (i + 1) % 3) {
        struct tc_reply reply;
        if (!tc.nodes[i].address[0]) {
            continue;
        }
        int status = tc_http(tc.nodes[i].address, "PUT", path, headers, "x", 1, &reply);
        bool done = status == 200 && tc_header(&reply, "Hadb-Version", version, 64);
        if (status != 200 && status != 0 && status != 503 && status != 504) {
            fail_msg("put %s: %d %s", key, status, reply.body);
        }
        tc_reply_deinit(&reply);
        if (done) {
            return;
        }
    }
    fail_msg("put %s was never acknowledged", key);
}

static unsigned count_keys(unsigned i, const char *prefix)
{
    struct tc_reply reply;
    char path[128];
    unsigned len = 0;
    snprintf(path, sizeof path, "/v1/db/" TC_DB "/scan?limit=10000&prefix=%s", prefix);
    assert_int_equal(tc_http(tc.nodes[i].address, "GET", path, NULL, NULL, 0, &reply), 200);
    for (char *at = reply.body; (at = strstr(at, "\"key\":")); at++) {
        len++;
    }
    tc_reply_deinit(&reply);
    return len;
}

static void same_chain(unsigned a, unsigned b)
{
    char x[80] = "x", y[80] = "y";
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; strcmp(x, y) != 0 && tc_now_ms() < end;) {
        tc_status(&tc, a, "chain_hash", x, sizeof x);
        tc_status(&tc, b, "chain_hash", y, sizeof y);
        tc_sleep_ms(5);
    }
    assert_string_equal(x, y);
}

static void killed_leaders__lose_no_acknowledged_write_and_repeat_none(void **state)
{
    (void)state;
    unsigned written = 0;
    char version[64];
    for (unsigned i = 0; i < 3; i++) {
        tc_fork(&tc, i);
    }
    for (unsigned round = 0; round < 6; round++) {
        unsigned leader = tc_leader(&tc, UINT32_MAX);
        char key[32];
        for (unsigned k = 0; k < 20; k++) {
            snprintf(key, sizeof key, "k%05u", written++);
            write_key((leader + 1 + k % 2) % 3, key, version);
        }
        tc_signal(&tc, leader, SIGKILL);
        snprintf(key, sizeof key, "k%05u", written++);
        write_key((leader + 1) % 3, key, version);
        tc_fork(&tc, leader);
    }
    for (unsigned i = 0; i < 3; i++) {
        tc_wait_txid(&tc, i, written);
        assert_int_equal(count_keys(i, "k"), written);
    }
    same_chain(0, 1);
    same_chain(0, 2);
    char txid[32];
    tc_status(&tc, 0, "txid", txid, sizeof txid);
    assert_int_equal(strtoul(txid, NULL, 10), written); /* one transaction each, no more */
}

static void a_killed_follower__comes_back_with_what_it_had(void **state)
{
    (void)state;
    char version[64], key[32];
    for (unsigned i = 0; i < 3; i++) {
        tc_fork(&tc, i);
    }
    unsigned leader = tc_leader(&tc, UINT32_MAX), follower = (leader + 1) % 3;
    for (unsigned k = 0; k < 40; k++) {
        if (k == 15) {
            tc_signal(&tc, follower, SIGKILL);
        }
        if (k == 30) {
            tc_fork(&tc, follower);
        }
        snprintf(key, sizeof key, "k%05u", k);
        write_key(leader, key, version);
    }
    tc_wait_txid(&tc, follower, 40);
    assert_int_equal(count_keys(follower, "k"), 40);
    same_chain(leader, follower);
}

static void all_nodes_killed_at_once__come_back_with_everything(void **state)
{
    (void)state;
    char version[64], key[32];
    for (unsigned i = 0; i < 3; i++) {
        tc_fork(&tc, i);
    }
    unsigned leader = tc_leader(&tc, UINT32_MAX);
    for (unsigned k = 0; k < 25; k++) {
        snprintf(key, sizeof key, "k%05u", k);
        write_key(leader, key, version);
    }
    for (unsigned i = 0; i < 3; i++) {
        tc_signal(&tc, i, SIGKILL);
    }
    for (unsigned i = 0; i < 3; i++) {
        tc_fork(&tc, i);
    }
    tc_leader(&tc, UINT32_MAX);
    write_key(0, "k99999", version);
    for (unsigned i = 0; i < 3; i++) {
        tc_wait_txid(&tc, i, 26);
        assert_int_equal(count_keys(i, "k"), 26);
    }
}

/* The request lies in the sleeper's socket before it wakes up. */
static void a_stopped_leader__acknowledges_nothing_after_its_term_and_follows_again(void **state)
{
    (void)state;
    char version[64], role[32], path[128];
    for (unsigned i = 0; i < 3; i++) {
        tc_fork(&tc, i);
    }
    unsigned old = tc_leader(&tc, UINT32_MAX);
    for (unsigned round = 0; round < 2; round++) {
        snprintf(path, sizeof path, "before%u", round);
        write_key(old, path, version);
        unsigned long term = strtoul(version, NULL, 10);
        tc_signal(&tc, old, SIGSTOP);
        unsigned leader = tc_leader(&tc, old);
        snprintf(path, sizeof path, "during%u", round);
        write_key(leader, path, version);
        assert_true(strtoul(version, NULL, 10) > term);
        term = strtoul(version, NULL, 10);
        tc_signal(&tc, old, SIGCONT);
        struct tc_reply reply;
        snprintf(path, sizeof path, "/v1/db/" TC_DB "/kv/zombie%u", round);
        int status = tc_http(tc.nodes[old].address, "PUT", path, NULL, "z", 1, &reply);
        assert_int_equal(status, 200); /* it went to the new leader */
        assert_true(tc_header(&reply, "Hadb-Version", version, sizeof version));
        assert_true(strtoul(version, NULL, 10) >= term);
        tc_reply_deinit(&reply);
        snprintf(path, sizeof path, "/v1/db/" TC_DB "/kv/during%u", round);
        assert_int_equal(tc_http(tc.nodes[old].address, "GET", path, NULL, NULL, 0, &reply), 200);
        tc_reply_deinit(&reply);
        for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_now_ms() < end; tc_sleep_ms(5)) {
            tc_status(&tc, old, "role", role, sizeof role);
            if (strcmp(role, "follower") == 0) {
                break;
            }
        }
        assert_string_equal(role, "follower");
        same_chain(old, leader);
        old = leader;
    }
}

/* Nobody reads or writes: the sleeper still finds out, and does not go on calling itself the leader. */
static void a_stopped_leader_of_an_idle_database__follows_again_too(void **state)
{
    (void)state;
    char role[32] = "";
    tc_fork(&tc, 0);
    tc_leader(&tc, UINT32_MAX);
    tc_fork(&tc, 1);
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_now_ms() < end; tc_sleep_ms(5)) {
        tc_status(&tc, 1, "node", role, sizeof role); /* its leader is known */
        if (strcmp(role, "n0") == 0) {
            break;
        }
    }
    tc_signal(&tc, 0, SIGSTOP);
    assert_int_equal(tc_leader(&tc, 0), 1);
    tc_signal(&tc, 0, SIGCONT);
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_now_ms() < end; tc_sleep_ms(5)) {
        tc_status(&tc, 0, "role", role, sizeof role);
        if (strcmp(role, "follower") == 0) {
            break;
        }
    }
    assert_string_equal(role, "follower");
}

/* The requests lie in the sleeper's sockets before it wakes up: with its lease run out it may not acknowledge them by
 * itself, and it does not know yet that another one leads. */
static void writes_to_a_leader_that_wakes_up__go_to_the_new_one(void **state)
{
    (void)state;
    static const char *const acks[] = {"async", "local", "durable", "both"};
    char version[64], path[128], headers[80];
    for (unsigned i = 0; i < 2; i++) {
        tc_fork(&tc, i);
    }
    unsigned old = tc_leader(&tc, UINT32_MAX);
    for (unsigned round = 0; round < 3; round++) {
        snprintf(path, sizeof path, "before%u", round);
        write_key(old, path, version);
        unsigned long term = strtoul(version, NULL, 10);
        tc_signal(&tc, old, SIGSTOP);
        unsigned leader = tc_leader(&tc, old);
        int fds[4];
        for (unsigned i = 0; i < 4; i++) {
            snprintf(path, sizeof path, "/v1/db/" TC_DB "/kv/woken%u-%s", round, acks[i]);
            snprintf(headers, sizeof headers, "Hadb-Ack: %s\r\n", acks[i]);
            fds[i] = tc_begin(tc.nodes[old].address, "PUT", path, headers, "w", 1);
            assert_true(fds[i] >= 0);
        }
        tc_signal(&tc, old, SIGCONT);
        for (unsigned i = 0; i < 4; i++) {
            struct tc_reply reply;
            int status = tc_end(fds[i], &reply);
            if (status != 200 || !tc_header(&reply, "Hadb-Version", version, sizeof version)) {
                fail_msg("round %u, ack %s: %d %s", round, acks[i], status, reply.body);
            }
            assert_true(strtoul(version, NULL, 10) > term);
            tc_reply_deinit(&reply);
            snprintf(path, sizeof path, "/v1/db/" TC_DB "/kv/woken%u-%s", round, acks[i]);
            assert_int_equal(tc_http(tc.nodes[leader].address, "GET", path, NULL, NULL, 0, &reply),
                             200);
            tc_reply_deinit(&reply);
        }
        same_chain(old, leader);
        old = leader;
    }
}

int main(void)
{
#define T(name) TC_TEST(name, tc_setup_files, &tc)
    const struct CMUnitTest tests[] = {
        T(killed_leaders__lose_no_acknowledged_write_and_repeat_none),
        T(a_killed_follower__comes_back_with_what_it_had),
        T(all_nodes_killed_at_once__come_back_with_everything),
        T(a_stopped_leader__acknowledges_nothing_after_its_term_and_follows_again),
        T(writes_to_a_leader_that_wakes_up__go_to_the_new_one),
        T(a_stopped_leader_of_an_idle_database__follows_again_too),
    };
    return cmocka_run_group_tests_name("kill", tests, NULL, NULL);
}
