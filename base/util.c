/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a process whose invariants do not hold any more.
 *
 * Thread: any. Writes one line to stderr with write(2) only, so that it works with a broken heap.
 */
#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void hadb_assert_failed(const char *expr, const char *file, int line, const char *func)
{
    char text[512];
    int len = snprintf(text, sizeof text, "hadb: broken invariant: %s (%s:%d, %s)\n", expr, file,
                       line, func);
    if (len > 0) {
        size_t size = HADB_MIN((size_t)len, sizeof text - 1);
        ssize_t written = write(STDERR_FILENO, text, size);
        (void)written;
    }
    abort();
}
