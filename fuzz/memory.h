/* SPDX-License-Identifier: Apache-2.0 */
/* What a decoder asks of the allocator, so that a target can assert a limit. One thread; all allocations of the
 * project go through it from the first call on. Jansson's go through it too after fuzz_memory_json(). */
#ifndef HADB_FUZZ_MEMORY_H
#define HADB_FUZZ_MEMORY_H

#include <malloc.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/util.h"

static struct fuzz_memory {
    bool counting;
    size_t largest; /* single request */
    size_t live, peak;
} fuzz_memory;

static inline void *fuzz_realloc(void *arg, void *ptr, size_t size)
{
    (void)arg;
    fuzz_memory.live -= ptr ? malloc_usable_size(ptr) : 0;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    void *fresh = realloc(ptr, size);
    HADB_ASSERT(fresh != NULL);
    fuzz_memory.live += malloc_usable_size(fresh);
    fuzz_memory.largest = HADB_MAX(fuzz_memory.largest, size);
    fuzz_memory.peak = HADB_MAX(fuzz_memory.peak, fuzz_memory.live);
    return fresh;
}

/* Call it first in the target, while nothing is allocated. */
static inline void fuzz_memory_start(void)
{
    static const struct hadb_allocator counted = {.realloc = fuzz_realloc};
    if (!fuzz_memory.counting) {
        hadb_allocator_set(&counted);
    }
    fuzz_memory = (struct fuzz_memory){.counting = true};
}

/* At the end: everything was given back, nothing larger than @largest_max was asked for, and never more than
 * @peak_max was held at once. */
static inline void fuzz_memory_end(size_t largest_max, size_t peak_max)
{
    HADB_ASSERT(fuzz_memory.live == 0);
    HADB_ASSERT(fuzz_memory.largest <= largest_max);
    HADB_ASSERT(fuzz_memory.peak <= peak_max);
}

#endif
