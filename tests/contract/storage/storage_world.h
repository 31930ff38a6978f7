/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the contract suite of storage runs on, named by a spec: BASE[:WRAPPER,…], wrappers from the outside
 * in. Bases: mem, slowmem, file (host), faultfs (file through a forwarding fs), memfs (file in memory),
 * s3 (the server of HADB_TEST_S3_URL, see tests/support/with_s3.py), http (tests/support/with_storage.py).
 * Wrappers: retry, breaker, prefix, trace, limit, bare (methods that have defaults taken away).
 */
#ifndef HADB_TESTS_STORAGE_WORLD_H
#define HADB_TESTS_STORAGE_WORLD_H
#include "hadb/storage.h"

struct storage_world;

/* A fresh, empty store. Aborts the test program when the spec is wrong. */
struct storage_world *storage_world_new(const char *spec);
void storage_world_free(struct storage_world *world); /* all handles closed before */
/* One more handle of the same store. */
void storage_world_open(struct storage_world *world, struct hadb_storage *out);
const struct hadb_env *storage_world_env(const struct storage_world *world);
#endif
