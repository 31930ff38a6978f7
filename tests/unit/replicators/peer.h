/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One database with its replicator and executor, as a node has them, and shorthands for tests. Everything
 * aborts the test when it fails. Single-threaded.
 */
#ifndef HADB_TESTS_PEER_H
#define HADB_TESTS_PEER_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/id.h"
#include "hadb/executor.h"
#include "hadb/replicator.h"
#include "tests/support/memfs.h"
#include "tests/support/support.h"

#define NOW 1800000000000 /* Unix milliseconds of all tests */

struct peer {
    const char *engine_name; /* "memory", "kv" */
    struct test_memfs *disk; /* of the engine and of lost/ */
    struct hadb_env env;
    struct hadb_engine engine;
    struct hadb_engine_ops hooked; /* a copy of engine.ops, once peer_hook() was called */
    struct hadb_replicator replicator;
    struct hadb_executor executor;
};

/* A test that runs on every engine; its state is the engine's name. */
#define ON_ENGINES(f)                                                                        \
    {.name = #f " [memory]", .test_func = f, .initial_state = (void *)(uintptr_t) "memory"}, \
    {                                                                                        \
        .name = #f " [kv]", .test_func = f, .initial_state = (void *)(uintptr_t) "kv"        \
    }

void peer_open(struct peer *peer, const char *engine_name);
void peer_close(struct peer *peer);
void peer_reopen(struct peer *peer); /* the engine too; kv only */
/* The engine's methods, to be replaced by the test; hooks call the original through a copy. */
struct hadb_engine_ops *peer_hook(struct peer *peer);

struct hadb_engine_position peer_position(const struct peer *peer);
struct hadb_hash peer_digest(const struct peer *peer); /* of everything */
/* The database's uuid, the same for all peers. */
struct hadb_id peer_db(void);

/* The n-th request id made at @unix_ms. */
struct hadb_id make_id(int64_t unix_ms, uint32_t n);
struct hadb_id next_id(void); /* a fresh one at NOW */

/* Requests with a fresh id. */
struct hadb_request put_request(const char *key, const char *value);
struct hadb_request delete_request(const char *key);
struct hadb_response run(struct peer *peer, uint64_t term, const struct hadb_request *request);
struct hadb_response run_clocks(struct peer *peer, uint64_t term, int64_t now_unix_ms,
                                uint64_t now_ms, const struct hadb_request *request);
/* … both clocks alike. */
struct hadb_response run_at(struct peer *peer, uint64_t term, int64_t now_unix_ms,
                            const struct hadb_request *request);
void put(struct peer *peer, uint64_t term, const char *key, const char *value);
/* @len bytes that hardly compress. */
void put_bytes(struct peer *peer, uint64_t term, const char *key, size_t len);
/* The value, "" for an empty one, NULL when absent; valid until the next call. */
const char *value_of(struct peer *peer, const char *key);

/* Position after an entry of @term at @slot that ends with @txid. */
struct hadb_pos make_pos(uint64_t term, uint64_t slot, hadb_txid txid);
/* Captures everything after @after. */
void capture_all(struct peer *peer, hadb_txid after, struct hadb_buf *body);
/* Ships everything above the mark of @from as one entry in its next slot, and applies it to @to. */
void ship(struct peer *from, struct peer *to);
#endif
