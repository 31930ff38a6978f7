/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening: without storage, with damage to one of several databases, with a store that stops keeping its promises.
 *
 * Every wait is for a state, with a bound.
 */
#include "tests/integration/cluster.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/id.h"
#include "tests/integration/flaky.h"
#include "tests/support/support.h"

static struct tc tc;
static struct flaky flaky;
static struct hadb_storage kept; /* a "mem:" store lives as long as somebody has it open */
static struct hadb_db *other;    /* beside TC_DB, on node 0 */

struct how {
    bool down, racy;
    uint32_t probe_every_ms;
    const char *engine;
    const char *const *databases; /* announced */
    size_t databases_len;
};

/* Node 0 over a store with switches, and nothing open on it. */
static void open_node(const struct how *how)
{
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_storage storage;
    struct hadb_error err = {0};
    char dir[HADB_PATH_BYTES_MAX + 16];
    flaky_open(&flaky, tc.store, &storage);
    flaky_set(&flaky.down, how->down);
    flaky_set(&flaky.racy, how->racy);
    snprintf(dir, sizeof dir, "%s/n0", tc.dir);
    options.name = "n0";
    options.data_dir = dir;
    options.storage = &storage;
    options.lease_url = tc.lease;
    options.listen = "127.0.0.1:0";
    options.ttl_ms = tc.ttl_ms;
    options.probe_every_ms = how->probe_every_ms;
    options.databases = how->databases;
    options.databases_len = how->databases_len;
    if (hadb_node_open(&options, &tc.nodes[0].node, &err) < 0) {
        fail_msg("%s", err.message);
    }
    snprintf(tc.nodes[0].address, sizeof tc.nodes[0].address, "%s",
             hadb_node_address(tc.nodes[0].node));
}

static struct hadb_db *open_db(const char *name)
{
    struct hadb_error err = {0};
    struct hadb_db *db = NULL;
    if (hadb_db_open(tc.nodes[0].node, name, NULL, &db, &err) < 0) {
        fail_msg("%s", err.message);
    }
    return db;
}

static void start(const struct how *how)
{
    open_node(how);
    tc.nodes[0].db = open_db(TC_DB);
}

static void wait_role(struct hadb_db *db, enum hadb_role role)
{
    uint64_t end = tc_now_ms() + TC_WAIT_MS;
    while (hadb_db_role(db) != role) {
        if (tc_now_ms() > end) {
            struct hadb_db_info info;
            hadb_db_info(db, &info);
            fail_msg("role %s, not %s: %s", hadb_role_name(info.role), hadb_role_name(role),
                     info.reason);
        }
        tc_sleep_ms(2);
    }
}

/* The text of the 503 that /readyz answers. */
static void not_ready(char *out, size_t cap)
{
    struct tc_reply reply;
    assert_int_equal(tc_http(tc.nodes[0].address, "GET", "/readyz", NULL, NULL, 0, &reply), 503);
    snprintf(out, cap, "%s", reply.body);
    tc_reply_deinit(&reply);
}

static void ready(void)
{
    for (uint64_t end = tc_now_ms() + TC_WAIT_MS; tc_now_ms() < end; tc_sleep_ms(2)) {
        struct tc_reply reply;
        int status = tc_http(tc.nodes[0].address, "GET", "/readyz", NULL, NULL, 0, &reply);
        tc_reply_deinit(&reply);
        if (status == 200) {
            return;
        }
    }
    fail_msg("not ready");
}

static int put(struct hadb_db *db, const char *key, uint32_t deadline_ms, struct hadb_error *err)
{
    struct hadb_kv_options options = {.deadline_ms = deadline_ms};
    return hadb_kv_put(db, hadb_slice_str(key), hadb_slice_str("x"), &options, NULL, err);
}

static int get(struct hadb_db *db, const char *key, enum hadb_read_level level,
               struct hadb_error *err)
{
    struct hadb_kv_options options = {.read = level, .deadline_ms = 5000};
    return hadb_kv_get(db, hadb_slice_str(key), &options, NULL, NULL, err);
}

static void put_ok(struct hadb_db *db, const char *key)
{
    struct hadb_error err = {0};
    int r = put(db, key, 0, &err);
    if (r != 0) {
        fail_msg("put %s: %d %s", key, r, err.message);
    }
}

static void says(const char *text, const char *word)
{
    if (!strstr(text, word)) {
        fail_msg("\"%s\" is not in: %s", word, text);
    }
}

/* ---- storage does not answer ---- */

static void a_node_restarted_during_an_outage__serves_what_it_has_and_goes_on_later(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    char text[512];
    start(&(struct how){0});
    put_ok(tc.nodes[0].db, "before");
    tc_close(&tc, 0, 1000);

    start(&(struct how){.down = true});
    assert_int_equal(get(tc.nodes[0].db, "before", HADB_READ_ANY, NULL), 0);
    not_ready(text, sizeof text);
    says(text, "does not answer");
    assert_int_equal(put(tc.nodes[0].db, "during", 100, &err), HADB_EUNAVAIL); /* nobody leads */
    flaky_set(&flaky.down, 0);
    ready();
    wait_role(tc.nodes[0].db, HADB_ROLE_LEADER);
    put_ok(tc.nodes[0].db, "after");
    assert_int_equal(get(tc.nodes[0].db, "before", HADB_READ_LINEARIZABLE, NULL), 0);
    assert_int_equal(get(tc.nodes[0].db, "during", HADB_READ_LINEARIZABLE, NULL), HADB_ABSENT);
}

static void a_new_database_during_an_outage__waits_and_says_so(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    struct hadb_db_info info;
    char text[512];
    start(&(struct how){.down = true});
    assert_int_equal(hadb_db_role(tc.nodes[0].db), HADB_ROLE_OPENING);
    hadb_db_info(tc.nodes[0].db, &info);
    says(info.reason, "opening: ");
    says(info.reason, "does not answer");
    assert_false(info.ready);
    assert_int_equal(get(tc.nodes[0].db, "k", HADB_READ_ANY, &err), HADB_EUNAVAIL);
    says(err.message, "does not answer");
    assert_int_equal(put(tc.nodes[0].db, "k", 5000, &err), HADB_EUNAVAIL);
    says(err.message, "does not answer");
    assert_int_equal(hadb_db_wait_ready(tc.nodes[0].db, 20, &err), HADB_ETIMEDOUT);
    tc_status(&tc, 0, "role", text, sizeof text);
    assert_string_equal(text, "opening");
    flaky_set(&flaky.down, 0);
    tc_ready(&tc, 0);
    put_ok(tc.nodes[0].db, "k");
    hadb_db_info(tc.nodes[0].db, &info);
    assert_string_equal(info.reason, "");
}

static void a_database_that_waits_for_storage__can_be_closed(void **state)
{
    (void)state;
    start(&(struct how){.down = true});
    other = open_db("other");
    hadb_db_close(other, 1000);
    assert_int_equal(hadb_db_role(tc.nodes[0].db), HADB_ROLE_OPENING);
    tc_close(&tc, 0, 1000);
    start(&(struct how){0}); /* and nothing is left behind that is in its way */
    tc_ready(&tc, 0);
}

static void store_is_empty_but_for_the_probe(void)
{
    struct hadb_object_list list = {0};
    struct hadb_call call = hadb_call_within(hadb_env_host(), 5000);
    assert_int_equal(hadb_storage_list(&flaky.inner, &call, "", "", 100, &list, NULL), 0);
    for (size_t i = 0; i < list.len; i++) {
        assert_true(strncmp(list.items[i].key, "probe/", 6) == 0);
    }
    hadb_object_list_deinit(&list);
}

static int ask_key(const char *db, struct tc_reply *reply)
{
    char path[64];
    snprintf(path, sizeof path, "/v1/db/%s/kv/k", db);
    return tc_http(tc.nodes[0].address, "GET", path, NULL, NULL, 0, reply);
}

/* 503 with Retry-After, and the name in the message. */
static void unavailable(const char *db)
{
    struct tc_reply reply;
    char retry[16];
    assert_int_equal(ask_key(db, &reply), 503);
    assert_true(tc_header(&reply, "Retry-After", retry, sizeof retry));
    says(reply.body, db);
    says(reply.body, "not open");
    tc_reply_deinit(&reply);
}

static void absent(const char *db, const char *error)
{
    struct tc_reply reply;
    assert_int_equal(ask_key(db, &reply), 404);
    says(reply.body, error);
    tc_reply_deinit(&reply);
}

static void alive(void)
{
    struct tc_reply reply;
    assert_int_equal(tc_http(tc.nodes[0].address, "GET", "/healthz", NULL, NULL, 0, &reply), 200);
    tc_reply_deinit(&reply);
}

static void
announced_databases__are_unavailable_and_hold_up_readiness_until_they_are_open(void **state)
{
    (void)state;
    static const char *const names[] = {TC_DB, "second"};
    char why[256];
    open_node(&(struct how){.databases = names, .databases_len = 2});
    not_ready(why, sizeof why);
    says(why, TC_DB);
    alive();
    unavailable(TC_DB);
    unavailable("second");
    absent("third", "ENODB");
    tc.nodes[0].db = open_db(TC_DB);
    tc_ready(&tc, 0);
    absent(TC_DB, "ABSENT");
    not_ready(why, sizeof why);
    says(why, "second");
    unavailable("second");
    other = open_db("second");
    ready();
    absent("second", "ABSENT");
}

static void a_copy_in_the_folder__makes_its_database_unavailable_until_it_is_open(void **state)
{
    (void)state;
    char why[256];
    start(&(struct how){0});
    put_ok(tc.nodes[0].db, "before");
    tc_close(&tc, 0, 1000);
    open_node(&(struct how){0});
    not_ready(why, sizeof why);
    says(why, "no database is open");
    unavailable(TC_DB);
    absent("second", "ENODB");
    other = open_db("second"); /* nothing was announced: whoever opens says when it is done */
    ready();
    unavailable(TC_DB);
    tc.nodes[0].db = open_db(TC_DB);
    ready();
    absent(TC_DB, "ABSENT");
}

static void announced_databases__have_names(void **state)
{
    (void)state;
    static const char *const names[] = {"a/b"};
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    struct hadb_node *node = NULL;
    struct hadb_error err = {0};
    options.name = "n0";
    options.data_dir = tc.dir;
    options.storage_url = tc.store;
    options.lease_url = tc.lease;
    options.databases = names;
    options.databases_len = 1;
    assert_int_equal(hadb_node_open(&options, &node, &err), HADB_EINVAL);
    says(err.message, "databases");
}

/* The folder of one cluster, the store of another. */
static void the_folder_of_another_cluster__is_refused_and_nothing_is_made(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    struct hadb_db *db = NULL;
    start(&(struct how){0});
    put_ok(tc.nodes[0].db, "before");
    tc_close(&tc, 0, 1000);
    hadb_storage_close(&kept);
    snprintf(tc.store, sizeof tc.store, "mem:tc-elsewhere-%d", (int)getpid());
    assert_int_equal(hadb_storage_open(tc.store, NULL, &kept, NULL), 0);
    open_node(&(struct how){0});
    assert_int_equal(hadb_db_open(tc.nodes[0].node, TC_DB, NULL, &db, &err), HADB_EINVAL);
    says(err.message, "no database test");
    store_is_empty_but_for_the_probe();
    tc_close(&tc, 0, 0);

    char dir[HADB_PATH_BYTES_MAX + 16], away[HADB_PATH_BYTES_MAX + 16];
    snprintf(dir, sizeof dir, "%s/n0", tc.dir);
    snprintf(away, sizeof away, "%s/away", tc.dir);
    assert_int_equal(rename(dir, away), 0);
    start(&(struct how){
        0}); /* the other cluster has a database of that name now, with another uuid */
    tc_ready(&tc, 0);
    tc_close(&tc, 0, 1000);
    snprintf(away, sizeof away, "%s/n1", tc.dir);
    assert_int_equal(rename(dir, away), 0);
    snprintf(away, sizeof away, "%s/away", tc.dir);
    assert_int_equal(rename(away, dir), 0);
    open_node(&(struct how){0});
    assert_int_equal(hadb_db_open(tc.nodes[0].node, TC_DB, NULL, &db, &err), HADB_EINVAL);
    says(err.message, "another database test");
}

static void a_copy_that_the_store_does_not_know__halts_once_it_answers(void **state)
{
    (void)state;
    struct hadb_db_info info;
    start(&(struct how){0});
    put_ok(tc.nodes[0].db, "before");
    tc_close(&tc, 0, 1000);
    snprintf(tc.store, sizeof tc.store, "mem:tc-elsewhere-%d", (int)getpid());
    start(&(struct how){.down = true});
    assert_int_equal(get(tc.nodes[0].db, "before", HADB_READ_ANY, NULL), 0);
    flaky_set(&flaky.down, 0);
    wait_role(tc.nodes[0].db, HADB_ROLE_HALTED);
    hadb_db_info(tc.nodes[0].db, &info);
    says(info.reason, "check the store's address"); /* for want of the name, or of the manifest */
    store_is_empty_but_for_the_probe();
    assert_int_equal(put(tc.nodes[0].db, "k", 5000, NULL), HADB_EUNAVAIL);
}

/* ---- one database is damaged ---- */

static void find(const char *pattern, char *out, size_t cap)
{
    glob_t found;
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    snprintf(out, cap, "%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
}

static void flip_middle(const char *path)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    long at = ftell(file) / 2;
    fseek(file, at, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(byte ^ 0x55, file);
    fclose(file);
}

/* TC_DB and "other", both with a key; then the node is down and the folder of "other" is in @dir. */
static void two_databases(char *dir, size_t cap)
{
    char id[HADB_ID_TEXT_BYTES];
    struct hadb_db_info info;
    start(&(struct how){0});
    other = open_db("other");
    put_ok(tc.nodes[0].db, "k");
    put_ok(other, "k");
    hadb_db_info(other, &info);
    hadb_id_format(&info.uuid, id);
    tc_close(&tc, 0, 1000);
    snprintf(dir, cap, "%s/n0/db/%s", tc.dir, id);
}

static void halted_alone(const char *file)
{
    struct hadb_error err = {0};
    struct hadb_db_info info;
    char text[512];
    start(&(struct how){0});
    other = open_db("other");
    assert_int_equal(hadb_db_role(other), HADB_ROLE_HALTED);
    hadb_db_info(other, &info);
    says(info.reason, file);
    says(info.reason, "start");
    assert_int_equal(get(other, "k", HADB_READ_ANY, &err), HADB_EUNAVAIL);
    says(err.message, file);
    assert_int_equal(get(other, "k", HADB_READ_LINEARIZABLE, &err), HADB_EUNAVAIL);
    says(err.message, file);
    assert_int_equal(put(other, "k", 5000, &err), HADB_EUNAVAIL);
    says(err.message, file);
    assert_int_equal(hadb_db_wait_ready(other, 5000, &err), HADB_EUNAVAIL);
    not_ready(text, sizeof text);
    says(text, "other");
    says(text, file);
    tc_ready(&tc, 0); /* the one beside it */
    put_ok(tc.nodes[0].db, "k2");
}

static void rebuilt_once_moved_away(const char *dir)
{
    char away[HADB_PATH_BYTES_MAX + 16];
    tc_close(&tc, 0, 1000);
    snprintf(away, sizeof away, "%s/away", tc.dir);
    assert_int_equal(rename(dir, away), 0);
    start(&(struct how){0});
    other = open_db("other");
    ready();
    assert_int_equal(get(other, "k", HADB_READ_LINEARIZABLE, NULL), 0);
    put_ok(other, "k3");
}

static void a_damaged_term_table__halts_its_database_alone(void **state)
{
    (void)state;
    char dir[HADB_PATH_BYTES_MAX + 64], path[HADB_PATH_BYTES_MAX + 96];
    two_databases(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/terms", dir);
    flip_middle(path);
    halted_alone("terms");
    rebuilt_once_moved_away(dir);
}

static void a_damaged_segment__halts_its_database_alone(void **state)
{
    (void)state;
    char dir[HADB_PATH_BYTES_MAX + 64], pattern[HADB_PATH_BYTES_MAX + 96];
    char path[HADB_PATH_BYTES_MAX];
    two_databases(dir, sizeof dir);
    snprintf(pattern, sizeof pattern, "%s/engine/seg-*", dir);
    find(pattern, path, sizeof path);
    FILE *file = fopen(path, "r+b"); /* its head: no torn end explains that */
    assert_non_null(file);
    fwrite("garbage", 1, 7, file);
    fclose(file);
    halted_alone("seg-");
    rebuilt_once_moved_away(dir);
}

static void store_object(const char *key, bool damage)
{
    struct hadb_storage storage;
    struct hadb_buf body = {0};
    struct hadb_tag tag;
    struct hadb_call call = hadb_call_within(hadb_env_host(), 5000);
    assert_int_equal(hadb_storage_open(tc.store, NULL, &storage, NULL), 0);
    assert_int_equal(hadb_storage_get(&storage, &call, key, &body, &tag, NULL), 0);
    if (damage) {
        body.data[body.len / 2] ^= 0x55;
        assert_int_equal(
            hadb_storage_replace(&storage, &call, key, hadb_buf_slice(&body), &tag, NULL, NULL), 0);
    }
    hadb_buf_deinit(&body);
    hadb_storage_close(&storage);
}

static void a_damaged_name_in_storage__halts_its_database_alone(void **state)
{
    (void)state;
    char dir[HADB_PATH_BYTES_MAX + 64];
    two_databases(dir, sizeof dir);
    store_object("names/other", true);
    halted_alone("names/other");
}

/* ---- what is refused makes nothing ---- */

static void a_wrong_engine_or_name__is_refused_before_anything_is_made(void **state)
{
    (void)state;
    struct hadb_error err = {0};
    struct hadb_db *db = NULL;
    struct hadb_db_options options = HADB_DB_OPTIONS_INIT;
    open_node(&(struct how){0});
    options.engine = "nosuch";
    assert_int_equal(hadb_db_open(tc.nodes[0].node, "x", &options, &db, &err), HADB_ENOTSUP);
    says(err.message, "nosuch");
    assert_int_equal(hadb_db_check("x", &options, NULL), HADB_ENOTSUP);
    assert_int_equal(hadb_db_open(tc.nodes[0].node, "a/b", NULL, &db, &err), HADB_EINVAL);
    store_is_empty_but_for_the_probe();
    db = open_db("x");
    assert_int_equal(hadb_db_open(tc.nodes[0].node, "x", NULL, &db, &err), HADB_EBUSY);
}

/* ---- the probe ---- */

static void a_store_that_stops_keeping_its_promises__is_not_led_from(void **state)
{
    (void)state;
    char text[512];
    struct hadb_error err = {0};
    start(&(struct how){.probe_every_ms = 20});
    tc_ready(&tc, 0);
    put_ok(tc.nodes[0].db, "k");
    flaky_set(&flaky.racy, 1);
    wait_role(tc.nodes[0].db, HADB_ROLE_FOLLOWER);
    not_ready(text, sizeof text);
    says(text, "fails check");
    assert_int_equal(put(tc.nodes[0].db, "k2", 200, &err), HADB_EUNAVAIL);
    assert_int_equal(get(tc.nodes[0].db, "k", HADB_READ_ANY, &err), 0);
    flaky_set(&flaky.racy, 0);
    wait_role(tc.nodes[0].db, HADB_ROLE_LEADER);
    ready();
    put_ok(tc.nodes[0].db, "k3");
}

/* The next node does not lead on the strength of what was found good before. */
static void a_failed_probe__replaces_the_kept_verdict(void **state)
{
    (void)state;
    start(&(struct how){.probe_every_ms = 20});
    tc_ready(&tc, 0);
    flaky_set(&flaky.racy, 1);
    wait_role(tc.nodes[0].db, HADB_ROLE_FOLLOWER);
    tc_close(&tc, 0, 1000);
    start(&(struct how){.racy = true});
    char text[512];
    not_ready(text, sizeof text);
    says(text, "fails check");
    assert_int_equal(put(tc.nodes[0].db, "k", 300, NULL), HADB_EUNAVAIL);
}

static int setup(void **state)
{
    (void)state;
    tc_init(&tc, true);
    return hadb_storage_open(tc.store, NULL, &kept, NULL);
}

static int teardown(void **state)
{
    (void)state;
    tc_deinit(&tc);
    hadb_storage_close(&kept);
    return 0;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_node_restarted_during_an_outage__serves_what_it_has_and_goes_on_later),
        T(a_new_database_during_an_outage__waits_and_says_so),
        T(a_database_that_waits_for_storage__can_be_closed),
        T(a_copy_that_the_store_does_not_know__halts_once_it_answers),
        T(the_folder_of_another_cluster__is_refused_and_nothing_is_made),
        T(a_damaged_term_table__halts_its_database_alone),
        T(a_damaged_segment__halts_its_database_alone),
        T(a_damaged_name_in_storage__halts_its_database_alone),
        T(a_wrong_engine_or_name__is_refused_before_anything_is_made),
        T(a_store_that_stops_keeping_its_promises__is_not_led_from),
        T(a_failed_probe__replaces_the_kept_verdict),
        T(announced_databases__are_unavailable_and_hold_up_readiness_until_they_are_open),
        T(a_copy_in_the_folder__makes_its_database_unavailable_until_it_is_open),
        T(announced_databases__have_names),
    };
    return cmocka_run_group_tests_name("open", tests, NULL, NULL);
}
