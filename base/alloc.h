/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: one replaceable allocator, so that tests can fail the n-th allocation. Any thread. */
#ifndef HADB_BASE_ALLOC_H
#define HADB_BASE_ALLOC_H
#include "hadb/types.h"

struct hadb_allocator {
    void *(*realloc)(void *arg, void *ptr, size_t size); /* size 0 frees and returns NULL */
    void *arg;
};
/* Replaces the allocator; once, before first use (tests: between uses). NULL = the C library's. */
void hadb_allocator_set(const struct hadb_allocator *allocator);

void *hadb_malloc(size_t size); /* NULL when out of memory */
void *hadb_calloc(size_t len, size_t size); /* zeroed; overflow-checked */
void *hadb_realloc(void *ptr, size_t size);
void hadb_free(void *ptr);
char *hadb_strdup(const char *s);
#endif
