/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes in one process (or in children that can be killed), over one store, for tests; and a small blocking
 * HTTP client. Everything aborts the test with a message when it cannot go on.
 */
#ifndef HADB_TESTS_CLUSTER_H
#define HADB_TESTS_CLUSTER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "hadb/hadb.h"

#define TC_NODES_MAX 5u
#define TC_DB "test"
#define TC_WAIT_MS 15000u

struct tc_node {
    struct hadb_node *node;
    struct hadb_db *db;
    pid_t pid; /* a node in a child */
    char address[64];
};

struct tc {
    char dir[HADB_PATH_BYTES_MAX];
    char store[HADB_PATH_BYTES_MAX + 64], lease[HADB_PATH_BYTES_MAX + 64];
    const char *token;
    uint32_t ttl_ms, window;
    const struct hadb_env *env;
    struct hadb_db_options db_options;
    hadb_event_fn on_event;
    void *event_arg;
    struct tc_node nodes[TC_NODES_MAX];
};

/* @mem: stores in this process ("mem:"), else folders. TTL 1 s. */
void tc_init(struct tc *tc, bool mem);
void tc_deinit(struct tc *tc); /* closes and kills what is left */
/* The same for cmocka, with &tc as its first state: tests over "mem:", and over folders. */
int tc_setup(void **state);
int tc_setup_files(void **state);
int tc_teardown(void **state);
#define TC_TEST(name, setup, tc) \
    cmocka_unit_test_prestate_setup_teardown(name, setup, tc_teardown, tc)
/* Opens node @i ("n0", "n1", …) with database TC_DB in this process. */
void tc_open(struct tc *tc, unsigned i);
void tc_close(struct tc *tc, unsigned i, uint32_t deadline_ms);
void tc_ready(struct tc *tc, unsigned i);
void tc_start(struct tc *tc, unsigned len); /* opens so many: node 0 leads, the others follow */
/* The same in a child process that lives until it is killed. Only before this process has threads. */
void tc_fork(struct tc *tc, unsigned i);
void tc_signal(struct tc *tc, unsigned i, int sig); /* SIGKILL also waits */
/* Index of the node that leads, asking over HTTP; waits. @not: some other node (UINT32_MAX = any). */
unsigned tc_leader(struct tc *tc, unsigned not );
/* A counter of node @i out of /v1/metrics. */
uint64_t tc_metric(struct tc *tc, unsigned i, const char *name);
/* Waits until @i shows at least this applied txid. */
void tc_wait_txid(struct tc *tc, unsigned i, uint64_t txid);
/* One field of the first database in /v1/status, as text; quotes removed. */
void tc_status(struct tc *tc, unsigned i, const char *field, char *out, size_t out_bytes);

/* In-process calls that must succeed. */
struct hadb_kv_result tc_put(struct tc *tc, unsigned i, const char *key, const char *value);
/* The value, or "" with *absent set. Overwritten by the next call. */
const char *tc_get(struct tc *tc, unsigned i, const char *key, enum hadb_read_level level);

/* HTTP. @headers: "Name: value\r\n…" or NULL. Returns the status, 0 when the connection failed. */
struct tc_reply {
    int status;
    char *head; /* status line and headers */
    char *body;
    size_t body_len;
};
int tc_http(const char *address, const char *method, const char *path, const char *headers,
            const void *body, size_t body_len, struct tc_reply *reply);
/* The same in two halves: the request is in the other's socket; the answer. -1 = no connection. */
int tc_begin(const char *address, const char *method, const char *path, const char *headers,
             const void *body, size_t body_len);
int tc_end(int fd, struct tc_reply *reply);
void tc_reply_deinit(struct tc_reply *reply);
/* A header of a reply into @out; false when absent. */
bool tc_header(const struct tc_reply *reply, const char *name, char *out, size_t out_bytes);
/* Sends raw bytes, returns whatever comes until the server closes or 2 s pass. */
int tc_raw(const char *address, const void *bytes, size_t len, struct tc_reply *reply);

uint64_t tc_now_ms(void);
void tc_sleep_ms(uint64_t ms); /* for polling only */
#endif
