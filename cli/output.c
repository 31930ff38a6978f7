/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What commands print: messages, JSON with bytes in it, progress bars; and the small buffers behind them.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

__attribute__((format(printf, 1, 0))) static void print_line(const char *fmt, va_list args)
{
    fflush(stdout);
    fprintf(stderr, "hadb: ");
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

int cli_usage(const struct cli_command *command, const char *fmt, ...)
{
    if (fmt != NULL) {
        va_list args;
        va_start(args, fmt);
        print_line(fmt, args);
        va_end(args);
    }
    fprintf(stderr, "usage: hadb %s %s\n", command->name, command->usage);
    return CLI_USAGE;
}

int cli_fail(int exit_code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    print_line(fmt, args);
    va_end(args);
    return exit_code;
}

static int exit_of(const struct hadb_error *err)
{
    switch (err->code) {
    case HADB_ENODB:
        return CLI_ABSENT;
    case HADB_EUNAVAIL:
    case HADB_EBUSY:
        return CLI_UNAVAILABLE;
    case HADB_EUNKNOWN:
    case HADB_ETIMEDOUT:
        return CLI_UNKNOWN;
    case HADB_ECORRUPT:
    case HADB_EGAP:
    case HADB_EFORKED:
        return CLI_CORRUPT;
    case HADB_EAUTH:
        return CLI_AUTH;
    default:
        return CLI_FAILED;
    }
}

static const char *text_of(const struct hadb_error *err)
{
    return err->message[0] ? err->message : hadb_code_text(err->code);
}

int cli_fail_error(const struct hadb_error *err)
{
    return cli_fail(exit_of(err), "%s", text_of(err));
}

int cli_help(const struct cli_command *command)
{
    printf("usage: hadb %s %s\n\n%s.\n\n%s", command->name, command->usage, command->summary,
           command->help);
    return CLI_OK;
}

bool cli_append(struct hadb_buf *buf, const void *data, size_t len)
{
    if (buf->len + len + 1 > buf->cap) {
        size_t cap = buf->cap ? buf->cap : 4096;
        while (cap < buf->len + len + 1) {
            cap *= 2;
        }
        uint8_t *grown = realloc(buf->data, cap);
        if (grown == NULL) {
            return false;
        }
        buf->data = grown;
        buf->cap = cap;
    }
    if (len != 0) {
        memcpy(buf->data + buf->len, data, len);
    }
    buf->len += len;
    buf->data[buf->len] = '\0'; /* for text; not counted */
    return true;
}

void cli_buf_free(struct hadb_buf *buf)
{
    free(buf->data);
    *buf = (struct hadb_buf){0};
}

bool cli_read_all(FILE *in, size_t bytes_max, struct hadb_buf *out)
{
    char chunk[65536];
    size_t len;
    while ((len = fread(chunk, 1, sizeof chunk, in)) > 0) {
        if (out->len + len > bytes_max) {
            errno = EFBIG;
            return false;
        }
        if (!cli_append(out, chunk, len)) {
            errno = ENOMEM;
            return false;
        }
    }
    return !ferror(in);
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *base64(const uint8_t *data, size_t len)
{
    char *out = malloc((len + 2) / 3 * 4 + 1);
    size_t at = 0;
    for (size_t i = 0; out != NULL && i < len; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16 | (i + 1 < len ? (uint32_t)data[i + 1] << 8 : 0) |
                     (i + 2 < len ? data[i + 2] : 0);
        out[at++] = base64_digits[v >> 18];
        out[at++] = base64_digits[v >> 12 & 63];
        out[at++] = i + 1 < len ? base64_digits[v >> 6 & 63] : '=';
        out[at++] = i + 2 < len ? base64_digits[v & 63] : '=';
    }
    if (out != NULL) {
        out[at] = '\0';
    }
    return out;
}

static bool unbase64(const char *text, size_t len, struct hadb_buf *out)
{
    if (len % 4 != 0) {
        return false;
    }
    for (size_t i = 0; i < len; i += 4) {
        uint32_t v = 0;
        int pad = 0;
        for (int k = 0; k < 4; k++) {
            const char *digit = text[i + k] ? strchr(base64_digits, text[i + k]) : NULL;
            bool is_pad = text[i + k] == '=' && i + 4 == len && k >= 2;
            if ((digit == NULL && !is_pad) || (digit != NULL && pad > 0)) {
                return false;
            }
            pad += is_pad;
            v = v << 6 | (digit ? (uint32_t)(digit - base64_digits) : 0);
        }
        uint8_t bytes[3] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
        if (!cli_append(out, bytes, (size_t)(3 - pad))) {
            return false;
        }
    }
    return true;
}

void cli_json_bytes(json_t *object, const char *name, const void *data, size_t len)
{
    json_t *text = json_stringn(len ? data : "", len); /* NULL unless it is UTF-8 */
    if (text != NULL) {
        json_object_set_new(object, name, text);
        return;
    }
    char *encoded = base64(data, len);
    char field[64];
    snprintf(field, sizeof field, "%s_base64", name);
    json_object_set_new(object, field, json_string(encoded ? encoded : ""));
    free(encoded);
}

int cli_json_take_bytes(const json_t *object, const char *name, struct hadb_buf *out)
{
    out->len = 0;
    char field[64];
    snprintf(field, sizeof field, "%s_base64", name);
    const json_t *text = json_object_get(object, name);
    const json_t *encoded = json_object_get(object, field);
    if (text == NULL && encoded == NULL) {
        return 0;
    }
    if (!json_is_string(text ? text : encoded)) {
        return -1;
    }
    if (text != NULL) {
        return cli_append(out, json_string_value(text), json_string_length(text)) ? 1 : -1;
    }
    return unbase64(json_string_value(encoded), json_string_length(encoded), out) ? 1 : -1;
}

int cli_print_json(json_t *take_object)
{
    int r = take_object ? json_dumpf(take_object, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER) : -1;
    json_decref(take_object);
    fputc('\n', stdout);
    return r == 0 && fflush(stdout) == 0 ? CLI_OK : cli_fail(CLI_FAILED, "cannot write the output");
}

double cli_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void cli_progress_start(struct cli_progress *progress, const char *what, uint64_t total)
{
    *progress = (struct cli_progress){
        .what = what, .total = total, .started_s = cli_now_s(), .on = isatty(STDERR_FILENO) == 1};
}

void cli_progress_show(struct cli_progress *progress, uint64_t done, const char *unit)
{
    double now_s = cli_now_s();
    if (!progress->on || now_s < progress->shown_s + 0.1) {
        return;
    }
    progress->shown_s = now_s;
    double rate = (double)done / (now_s - progress->started_s + 1e-9);
    fprintf(stderr, "\r\033[K%s: ", progress->what);
    if (progress->total != 0) {
        int width = (int)(30 * done / progress->total);
        double left_s = rate > 0 ? (double)(progress->total - done) / rate : 0;
        fprintf(stderr, "[%.*s%.*s] %3d %%  %.0f %s/s  %.0f s left", width,
                "##############################", 30 - width, "..............................",
                (int)(100 * done / progress->total), rate, unit, left_s);
    } else {
        fprintf(stderr, "%llu %s  %.0f/s", (unsigned long long)done, unit, rate);
    }
    fflush(stderr);
}

void cli_progress_end(struct cli_progress *progress)
{
    if (progress->on && progress->shown_s > 0) {
        fprintf(stderr, "\r\033[K");
    }
}
