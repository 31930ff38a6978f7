/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and enriching struct hadb_error, and the table of codes.
 *
 * Thread: any; nothing is shared and nothing is allocated.
 * Invariants: a message is one line and always NUL-terminated; the code travels in the return value,
 * so that a NULL err loses text only.
 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct code_row {
    int code;
    const char *name;
    const char *text;
    bool retryable;
};

static const struct code_row codes[] = {
#define HADB_X(name, value, text, retry) {HADB_##name, #name, text, retry},
    HADB_CODES(HADB_X)
#undef HADB_X
};

static const struct code_row *code_find(int code)
{
    for (size_t i = 0; i < HADB_LEN(codes); i++) {
        if (codes[i].code == code) {
            return &codes[i];
        }
    }
    return NULL;
}

const char *hadb_code_name(int code)
{
    const struct code_row *row = code_find(code);
    return row ? row->name : "unknown";
}

const char *hadb_code_text(int code)
{
    const struct code_row *row = code_find(code);
    return row ? row->text : "unknown";
}

/* Foreign text (paths, replies of servers) may carry line feeds; a message is one line. */
static void one_line(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = ' ';
        }
    }
}

#define CONTEXT_BYTES_KEPT 40u /* however long the rest is */

/* Adds ": text" as far as there is room. */
static void message_append(struct hadb_error *err, const char *text)
{
    const char *const parts[] = {": ", text};
    size_t used = strlen(err->message);
    for (size_t i = 0; i < HADB_LEN(parts); i++) {
        size_t len = HADB_MIN(strlen(parts[i]), sizeof err->message - 1 - used);
        memcpy(err->message + used, parts[i], len);
        used += len;
    }
    err->message[used] = '\0';
}

HADB_PRINTF(3, 0)
static void error_set(struct hadb_error *err, int code, const char *fmt, va_list args)
{
    const struct code_row *row = code_find(code);
    char message[sizeof err->message];
    /* Formatted aside first: an argument may point into err->message. */
    if (vsnprintf(message, sizeof message, fmt, args) < 0) {
        message[0] = '\0';
    }
    one_line(message);
    *err = (struct hadb_error){.code = code, .retryable = row && row->retryable};
    memcpy(err->message, message, sizeof message);
}

int hadb_fail(struct hadb_error *err, int code, const char *fmt, ...)
{
    HADB_ASSERT(code < 0);
    if (err) {
        va_list args;
        va_start(args, fmt);
        error_set(err, code, fmt, args);
        va_end(args);
    }
    return code;
}

static int code_of_errno(int errno_value)
{
    switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
        return HADB_ENOSPC;
    case ENOMEM:
        return HADB_ENOMEM;
    case EACCES:
    case EPERM:
        return HADB_EAUTH;
    default:
        return HADB_EIO;
    }
}

/* What only a person can change: the same call will fail again. */
static bool stays(int errno_value)
{
    return errno_value == ENOTDIR || errno_value == EISDIR || errno_value == EROFS ||
           errno_value == ELOOP || errno_value == ENAMETOOLONG || errno_value == ENXIO;
}

int hadb_fail_errno(struct hadb_error *err, int errno_value, const char *fmt, ...)
{
    int code = code_of_errno(errno_value);
    if (!err) {
        return code;
    }
    va_list args;
    va_start(args, fmt);
    error_set(err, code, fmt, args);
    va_end(args);
    err->sys_errno = errno_value;
    err->retryable = err->retryable && !stays(errno_value);
    char reason[96];
    /* The GNU strerror_r returns the text, which need not be in the buffer. */
    message_append(err, strerror_r(errno_value, reason, sizeof reason));
    return code;
}

int hadb_wrap(struct hadb_error *err, int r, const char *fmt, ...)
{
    if (r >= 0 || !err) {
        return r;
    }
    if (err->code != r) {
        /* The layer below had no text to give: start from the code's own. */
        hadb_fail(err, r, "%s", hadb_code_text(r));
    }
    char context[sizeof err->message] = {0};
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(context, sizeof context, fmt, args);
    va_end(args);
    if (len < 0) {
        return r;
    }
    one_line(context);
    size_t have = strlen(context), said = strlen(err->message), room = sizeof context - 1;
    if (strncmp(err->message, context, have) == 0 && err->message[have] == ':') {
        return r; /* the layer below has said so */
    }
    /* What happened and what to do stand at the end: the context is cut first. */
    size_t keep = room > said + 2 ? room - said - 2 : 0;
    keep = HADB_MAX(keep, (size_t)CONTEXT_BYTES_KEPT);
    if (have > keep) {
        memcpy(context + keep - 3, "...", 4);
    }
    char old[sizeof err->message];
    memcpy(old, err->message, sizeof old);
    memcpy(err->message, context, sizeof context);
    message_append(err, old);
    return r;
}

int hadb_advise(struct hadb_error *err, int r, const char *advice)
{
    if (r >= 0 || !err) {
        return r;
    }
    if (err->code != r) {
        hadb_fail(err, r, "%s", hadb_code_text(r));
    }
    size_t said = strlen(err->message), room = sizeof err->message - 1;
    while (said > 0 && strchr(" .", err->message[said - 1])) { /* of a foreign text */
        err->message[--said] = '\0';
    }
    size_t need = HADB_MIN(strlen(advice) + 2, room);
    if (strlen(err->message) + need > room) {
        size_t keep = room - need;
        err->message[keep] = '\0';
        if (keep > 3) {
            memcpy(err->message + keep - 3, "...", 3);
        }
    }
    message_append(err, advice);
    return r;
}

int hadb_fail_nomem(struct hadb_error *err)
{
    return hadb_fail(err, HADB_ENOMEM, "out of memory");
}

int hadb_fail_misuse(struct hadb_error *err, const char *function)
{
    return hadb_fail(err, HADB_EINVAL,
                     "%s: the handle is not open, or an argument that it needs is NULL", function);
}
