/* SPDX-License-Identifier: Apache-2.0 */
/* Assertions (on in release builds), cleanup attribute, min/max, array length. */
#ifndef HADB_BASE_UTIL_H
#define HADB_BASE_UTIL_H
#include "hadb/types.h"

/* Logs the expression and place to stderr and aborts. For broken invariants, never for bad input. */
_Noreturn void hadb_assert_failed(const char *expr, const char *file, int line, const char *func);
#define HADB_ASSERT(expr)                                                                          \
    ((expr) ? (void)0 : hadb_assert_failed(#expr, __FILE__, __LINE__, __func__))

#define HADB_CLEANUP(fn) __attribute__((cleanup(fn)))
#define HADB_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define HADB_MIN(a, b) ((a) < (b) ? (a) : (b))
#define HADB_MAX(a, b) ((a) > (b) ? (a) : (b))
#define HADB_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define HADB_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#endif
