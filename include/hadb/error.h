/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Results and errors.
 *
 *   0   done
 *  >0   an outcome that the doc block of the function lists and the caller must switch on
 *  <0   a failure, one of enum hadb_code
 */
#ifndef HADB_ERROR_H
#define HADB_ERROR_H

#include "hadb/types.h"

HADB_BEGIN_DECLS

/* Outcomes: expected results that are not "done" and not failures. */
#define HADB_OK 0
#define HADB_ABSENT 1   /* there is no such key or object */
#define HADB_EXISTS 2   /* create: something is there already */
#define HADB_CAS_LOST 3 /* compare-and-swap: someone else wrote first */
#define HADB_END 4      /* iteration is over */
#define HADB_DIVERGED 5 /* apply: the local tail differs from the history */
#define HADB_NOT_MET 6  /* a write's own condition (if_absent, if_version) does not hold */

/*
 * Failures. X(name, value, text, retryable by default)
 * On a write of any kind HADB_ETIMEDOUT means "state unknown"; every other failure of a storage
 * or lease write means that the write was surely not applied.
 */
#define HADB_CODES(X)                                                                              \
    X(EINVAL, -1, "invalid argument", false)                                                       \
    X(ENOMEM, -2, "out of memory", false)                                                          \
    X(EIO, -3, "input/output error", true)                                                         \
    X(ETIMEDOUT, -4, "timed out, state unknown", true)                                             \
    X(EAUTH, -5, "not authorised", false)                                                          \
    X(ENOTSUP, -6, "not supported in this build or by this backend", false)                        \
    X(ECORRUPT, -7, "corrupt data", false)                                                         \
    X(ETOOBIG, -8, "too big", false)                                                               \
    X(EBUSY, -9, "busy", true)                                                                     \
    X(EFENCED, -10, "fenced: another node leads, not committed", true)                             \
    X(EUNKNOWN, -11, "outcome unknown, retry with the same request id", true)                      \
    X(EUNAVAIL, -12, "unavailable: surely not done", true)                                         \
    X(ECANCELED, -13, "cancelled", false)                                                          \
    X(ENOSPC, -14, "no space left", false)                                                         \
    X(EPOISONED, -15, "database poisoned by an earlier write error", false)                        \
    X(EFORKED, -16, "position is not part of this history", false)                                 \
    X(EGAP, -17, "history has a gap", false)                                                       \
    X(EVERSION, -18, "unknown format version", false)                                              \
    X(EEXPIRED, -19, "request id is older than the horizon or too far ahead", false)               \
    X(ENODB, -20, "no such database", false)                                                       \
    X(ELOCKED, -21, "locked by another process", false)                                            \
    X(EPROTO, -22, "malformed request or reply", false)                                            \
    X(ESTATE, -23, "not possible in this state or process", false)

enum hadb_code {
/* clang-format off */
#define HADB_X(name, value, text, retry) HADB_##name = value,
    HADB_CODES(HADB_X)
#undef HADB_X
    /* clang-format on */
};

/** What went wrong, for people and for callers. Owned by the caller; the zero value is "no error". */
struct hadb_error {
    int code;          /* enum hadb_code, 0 = none */
    bool retryable;    /* the same call may succeed later */
    int http_status;   /* status that a server answered; 0 = none */
    int sys_errno;     /* errno behind it; 0 = none */
    char message[240]; /* one line, lower case, no full stop, no secrets */
};

/**
 * Name of a code ("EIO") and its text, both static.
 *
 * Returns    a static string; "unknown" for a number that is no code
 * Errors     none
 * Threads    any thread
 */
HADB_API const char *hadb_code_name(int code);
HADB_API const char *hadb_code_text(int code);

HADB_END_DECLS
#endif
