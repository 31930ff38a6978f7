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

static const struct cli_command *current; /* whose messages these are */
static bool as_json;                      /* --json: errors are objects, too */
static bool bar_shown; /* a progress bar stands on the last line of the terminal */

void cli_begin(const struct cli_command *command, bool json)
{
    current = command;
    as_json = json;
}

static void clear_bar(void)
{
    if (bar_shown) {
        fprintf(stderr, "\r\033[K");
        bar_shown = false;
    }
}

/* One line on stderr: "hadb VERB: message", or with --json {"error":NAME,"message":…}. */
static void print_message(const char *name, const char *request_id, const char *message)
{
    fflush(stdout);
    clear_bar();
    if (!as_json) {
        fprintf(stderr, "hadb%s%s: %s\n", current ? " " : "", current ? current->name : "",
                message);
        if (request_id != NULL) {
            fprintf(stderr, "repeat it safely with --request-id %s\n", request_id);
        }
        return;
    }
    json_t *text = json_string(message); /* NULL unless it is UTF-8 */
    json_t *out = json_pack("{s:s, s:o}", "error", name, "message",
                            text ? text : json_string("a message with bytes that are not UTF-8"));
    if (request_id != NULL) {
        json_object_set_new(out, "request_id", json_string(request_id));
    }
    json_dumpf(out, stderr, JSON_COMPACT | JSON_PRESERVE_ORDER);
    fputc('\n', stderr);
    json_decref(out);
}

/* The name of an error that has no finer one, as in hadb/error.h and in the HTTP interface. */
static const char *name_of(int exit_code)
{
    static const char *const names[] = {
        [CLI_FAILED] = "EIO",       [CLI_USAGE] = "EINVAL",         [CLI_ABSENT] = "ABSENT",
        [CLI_NOT_MET] = "NOT_MET",  [CLI_UNAVAILABLE] = "EUNAVAIL", [CLI_UNKNOWN] = "EUNKNOWN",
        [CLI_CORRUPT] = "ECORRUPT", [CLI_AUTH] = "EAUTH",
    };
    return names[exit_code];
}

void cli_warn(const char *fmt, ...)
{
    char message[CLI_MESSAGE_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    fprintf(stderr, "warning: %s\n", message);
}

int cli_usage(const struct cli_command *command, const char *fmt, ...)
{
    char message[CLI_MESSAGE_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    print_message(name_of(CLI_USAGE), NULL, message);
    if (!as_json) {
        fprintf(stderr, "usage: hadb %s %s\n'hadb %s --help' tells more\n", command->name,
                command->usage, command->name);
    }
    return CLI_USAGE;
}

int cli_fail(int exit_code, const char *fmt, ...)
{
    char message[CLI_MESSAGE_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    print_message(name_of(exit_code), NULL, message);
    return exit_code;
}

int cli_fail_reply(int exit_code, const char *name, const char *request_id, const char *message)
{
    print_message(name ? name : name_of(exit_code), request_id, message);
    return exit_code;
}

int cli_fail_file(const char *path, int reason)
{
    int exit_code = reason == ENOENT || reason == ENOTDIR ? CLI_ABSENT
                    : reason == EACCES || reason == EPERM ? CLI_AUTH
                                                          : CLI_FAILED;
    return cli_fail(exit_code, "%s: %s", path, strerror(reason));
}

int cli_exit_of(const struct hadb_error *err)
{
    switch (err->code) {
    case HADB_EINVAL:
    case HADB_ENOTSUP:
    case HADB_ETOOBIG:
        return CLI_USAGE;
    case HADB_ENODB:
        return CLI_ABSENT;
    case HADB_EUNAVAIL:
    case HADB_EBUSY:
    case HADB_ELOCKED:
    case HADB_EFENCED:
        return CLI_UNAVAILABLE;
    case HADB_EUNKNOWN:
    case HADB_ETIMEDOUT:
        return CLI_UNKNOWN;
    case HADB_ECORRUPT:
    case HADB_EGAP:
    case HADB_EFORKED:
    case HADB_EVERSION:
        return CLI_CORRUPT;
    case HADB_EAUTH:
        return CLI_AUTH;
    default:
        return CLI_FAILED;
    }
}

int cli_fail_error(const struct hadb_error *err)
{
    const char *text = err->message[0] ? err->message : hadb_code_text(err->code);
    return cli_fail_reply(cli_exit_of(err), hadb_code_name(err->code), NULL, text);
}

int cli_help(const struct cli_command *command)
{
    printf("usage: hadb %s %s\n\n%s.\n\n%s", command->name, command->usage, command->summary,
           command->help);
    return CLI_OK;
}

int cli_output_failed(void)
{
    return cli_fail(CLI_FAILED, "cannot write the output: %s", strerror(errno));
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
    return r == 0 && fputc('\n', stdout) != EOF ? CLI_OK : cli_output_failed();
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
        done = done < progress->total ? done : progress->total; /* a file may grow */
        int width = (int)(30 * done / progress->total);
        double left_s = rate > 0 ? (double)(progress->total - done) / rate : 0;
        fprintf(stderr, "[%.*s%.*s] %3d %%  %.0f %s/s  %.0f s left", width,
                "##############################", 30 - width, "..............................",
                (int)(100 * done / progress->total), rate, unit, left_s);
    } else {
        fprintf(stderr, "%llu %s  %.0f/s", (unsigned long long)done, unit, rate);
    }
    fflush(stderr);
    bar_shown = true;
}

void cli_progress_end(struct cli_progress *progress)
{
    progress->on = false;
    clear_bar();
}
