/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory: every allocation of the library goes through here, so that a test can fail the n-th one.
 *
 * Thread: any; the allocator itself is replaced only before first use or between tests.
 * Invariants: a NULL result means that nothing was allocated and nothing changed; size 0 is
 * allocated as one byte, so that NULL always means "out of memory".
 * Happy path: malloc, calloc and realloc of the C library.
 * Failure modes: NULL, which the caller turns into HADB_ENOMEM.
 */
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"

static void *host_realloc(void *arg, void *ptr, size_t size)
{
    (void)arg;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, size);
}

static struct hadb_allocator current = {.realloc = host_realloc};

void hadb_allocator_set(const struct hadb_allocator *allocator)
{
    if (!allocator) {
        current = (struct hadb_allocator){.realloc = host_realloc};
        return;
    }
    HADB_ASSERT(allocator->realloc);
    current = *allocator;
}

void *hadb_malloc(size_t size)
{
    return current.realloc(current.arg, NULL, size ? size : 1);
}

void *hadb_calloc(size_t len, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(len, size, &total)) {
        return NULL;
    }
    void *ptr = hadb_malloc(total);
    if (ptr) {
        memset(ptr, 0, total);
    }
    return ptr;
}

void *hadb_realloc(void *ptr, size_t size)
{
    return current.realloc(current.arg, ptr, size ? size : 1);
}

void hadb_free(void *ptr)
{
    if (ptr) {
        current.realloc(current.arg, ptr, 0);
    }
}

char *hadb_strdup(const char *s)
{
    HADB_ASSERT(s);
    size_t size = strlen(s) + 1;
    char *copy = hadb_malloc(size);
    if (copy) {
        memcpy(copy, s, size);
    }
    return copy;
}
