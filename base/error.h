/* SPDX-License-Identifier: Apache-2.0 */
/* Making and enriching struct hadb_error. @err may always be NULL: then only the code travels. */
#ifndef HADB_BASE_ERROR_H
#define HADB_BASE_ERROR_H
#include "base/util.h"
#include "hadb/error.h"

/* Sets *err (code, its default retryable flag, message) and returns code. */
int hadb_fail(struct hadb_error *err, int code, const char *fmt, ...) HADB_PRINTF(3, 4);
/* As hadb_fail, with sys_errno = errno_value and its text appended; ENOSPC/EDQUOT, ENOMEM and
 * EACCES/EPERM choose HADB_ENOSPC, HADB_ENOMEM and HADB_EAUTH, everything else HADB_EIO. */
int hadb_fail_errno(struct hadb_error *err, int errno_value, const char *fmt, ...)
    HADB_PRINTF(3, 4);
/* Puts "context: " before the message, unless it starts so already, and returns r unchanged. Outcomes (r >= 0)
 * pass untouched. Where both do not fit the context is cut ("..."). */
int hadb_wrap(struct hadb_error *err, int r, const char *fmt, ...) HADB_PRINTF(3, 4);
/* Puts ": advice" behind the message (less its full stop), cutting the message rather than the advice; returns r
 * unchanged. */
int hadb_advise(struct hadb_error *err, int r, const char *advice);
int hadb_fail_nomem(struct hadb_error *err);
/*
 * What an engine says at the end, behind "; ", of files that are damaged. Who knows a better next step, as a node that
 * can name the folder and rebuild it does, puts that in its place.
 */
#define HADB_RESTORE_ADVICE "restore this database from storage"
/* A public function was called with a handle that is not open, or without something that it needs: HADB_EINVAL. */
int hadb_fail_misuse(struct hadb_error *err, const char *function);
#endif
