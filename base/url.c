/* SPDX-License-Identifier: Apache-2.0 */
/*
 * URLs as backends use them, percent-encoding, and unsigned numbers.
 *
 * Thread: any; no state.
 * Invariants: all text of a parsed URL lives in one allocation (url.text); decoding never grows.
 * Failure modes: HADB_EINVAL with the reason. Messages never repeat the whole URL, which may carry
 * credentials; they name the part that is wrong.
 */
#include "base/url.h"

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"

#define URL_BYTES_MAX 8192u

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_value(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The next decoded byte of in[*at..len), or -1 on a bad escape. */
static int decode_next(const char *in, size_t len, size_t *at)
{
    HADB_ASSERT(*at < len);
    if (in[*at] != '%') {
        return (unsigned char)in[(*at)++];
    }
    if (len - *at < 3) {
        return -1;
    }
    int high = hex_value(in[*at + 1]);
    int low = hex_value(in[*at + 2]);
    *at += 3;
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

bool hadb_percent_decode(const char *in, size_t len, struct hadb_buf *out)
{
    size_t before = out->len;
    if (hadb_buf_reserve(out, len) < 0) {
        return false;
    }
    for (size_t at = 0; at < len;) {
        int byte = decode_next(in, len, &at);
        if (byte < 0) {
            out->len = before;
            return false;
        }
        out->data[out->len++] = (uint8_t)byte;
    }
    return true;
}

int hadb_percent_encode(struct hadb_slice in, struct hadb_buf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t worst = 0;
    if (__builtin_mul_overflow(in.len, (size_t)3, &worst)) {
        return HADB_ENOMEM;
    }
    int r = hadb_buf_reserve(out, worst);
    if (r < 0) {
        return r;
    }
    const char *bytes = in.data;
    for (size_t i = 0; i < in.len; i++) {
        char c = bytes[i];
        if (is_alpha(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == '~') {
            out->data[out->len++] = (uint8_t)c;
        } else {
            out->data[out->len++] = '%';
            out->data[out->len++] = (uint8_t)digits[(unsigned char)c >> 4];
            out->data[out->len++] = (uint8_t)digits[(unsigned char)c & 15];
        }
    }
    return 0;
}

bool hadb_parse_u64(const char *text, uint64_t lo, uint64_t hi, uint64_t *out)
{
    if (!text || *text == '\0') {
        return false;
    }
    uint64_t value = 0;
    for (const char *c = text; *c; c++) {
        if (!is_digit(*c) || __builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*c - '0'), &value)) {
            return false;
        }
    }
    if (value < lo || value > hi) {
        return false;
    }
    *out = value;
    return true;
}

/* Where the pieces of one URL are copied to. */
struct url_writer {
    char *at;
    struct hadb_error *err;
};

/* Copies in[0..len) decoded and NUL-terminated; NULL (and err) on a bad escape or an encoded NUL. */
static const char *put_decoded(struct url_writer *w, const char *what, const char *in, size_t len)
{
    const char *start = w->at;
    for (size_t at = 0; at < len;) {
        int byte = decode_next(in, len, &at);
        if (byte <= 0) {
            hadb_fail(w->err, HADB_EINVAL, "url: bad %%-escape in the %s", what);
            return NULL;
        }
        *w->at++ = (char)byte;
    }
    *w->at++ = '\0';
    return start;
}

/* Copies the scheme in lower case; returns its length without the colon, 0 if there is none. */
static size_t put_scheme(struct url_writer *w, const char *url)
{
    size_t len = 0;
    while (is_alpha(url[len]) ||
           (len > 0 && (is_digit(url[len]) || (url[len] && strchr("+-.", url[len]))))) {
        len++;
    }
    if (len == 0 || url[len] != ':') {
        return 0;
    }
    for (size_t i = 0; i < len; i++) {
        *w->at++ = (char)(url[i] >= 'A' && url[i] <= 'Z' ? url[i] - 'A' + 'a' : url[i]);
    }
    *w->at++ = '\0';
    return len;
}

static int put_param(struct url_writer *w, struct hadb_url *url, const char *in, size_t len)
{
    if (url->params_len == HADB_URL_PARAMS_MAX) {
        return hadb_fail(w->err, HADB_EINVAL, "url: more than %u parameters", HADB_URL_PARAMS_MAX);
    }
    const char *equals = memchr(in, '=', len);
    size_t name_len = equals ? (size_t)(equals - in) : len;
    if (name_len == 0) {
        return hadb_fail(w->err, HADB_EINVAL, "url: parameter without a name");
    }
    const char *name = put_decoded(w, "parameters", in, name_len);
    if (!name) {
        return HADB_EINVAL;
    }
    const char *value =
        equals ? put_decoded(w, name, equals + 1, len - name_len - 1) : put_decoded(w, name, "", 0);
    if (!value) {
        return HADB_EINVAL;
    }
    if (hadb_url_param(url, name)) {
        return hadb_fail(w->err, HADB_EINVAL, "url: parameter '%s' is given twice", name);
    }
    url->params[url->params_len].name = name;
    url->params[url->params_len].value = value;
    url->params_len++;
    return 0;
}

static int put_params(struct url_writer *w, struct hadb_url *url, const char *in)
{
    while (*in) {
        size_t len = strcspn(in, "&");
        int r = len ? put_param(w, url, in, len) : 0; /* "a=1&&b=2" is fine */
        if (r < 0) {
            return r;
        }
        in += len + (in[len] == '&');
    }
    return 0;
}

static int url_split(const char *in, struct url_writer *w, struct hadb_url *url)
{
    url->scheme = w->at;
    size_t scheme_len = put_scheme(w, in);
    if (scheme_len == 0) {
        return hadb_fail(w->err, HADB_EINVAL,
                         "url has no scheme; it looks like file:///dir, mem: or s3://bucket/dir");
    }
    in += scheme_len + 1;
    url->authority = "";
    if (in[0] == '/' && in[1] == '/') {
        in += 2;
        size_t len = strcspn(in, "/?");
        url->authority = put_decoded(w, "authority", in, len);
        in += len;
    }
    size_t path_len = strcspn(in, "?");
    url->path = url->authority ? put_decoded(w, "path", in, path_len) : NULL;
    if (!url->path) {
        return HADB_EINVAL;
    }
    in += path_len;
    return *in == '?' ? put_params(w, url, in + 1) : 0;
}

int hadb_url_parse(const char *url, struct hadb_url *out, struct hadb_error *err)
{
    size_t len = strnlen(url, URL_BYTES_MAX + 1);
    if (len > URL_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "url is longer than %u bytes", URL_BYTES_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)url[i] <= 0x20 || url[i] == 0x7f || url[i] == '#') {
            return hadb_fail(err, HADB_EINVAL,
                             "url: a blank, a control character or '#' must be %%-encoded");
        }
    }
    /* Every piece is at most as long as its source, and each ends in a NUL of its own. */
    char *text = hadb_malloc(len + 2 * HADB_URL_PARAMS_MAX + 8);
    if (!text) {
        return hadb_fail_nomem(err);
    }
    struct hadb_url parsed = {.text = text};
    struct url_writer writer = {.at = text, .err = err};
    int r = url_split(url, &writer, &parsed);
    if (r < 0) {
        hadb_free(text);
        return r;
    }
    *out = parsed;
    return 0;
}

void hadb_url_deinit(struct hadb_url *url)
{
    if (url) {
        hadb_free(url->text);
        *url = (struct hadb_url){0};
    }
}

const char *hadb_url_param(const struct hadb_url *url, const char *name)
{
    for (size_t i = 0; i < url->params_len; i++) {
        if (strcmp(url->params[i].name, name) == 0) {
            return url->params[i].value;
        }
    }
    return NULL;
}

int hadb_url_param_u64(const struct hadb_url *url, const char *name, uint64_t lo, uint64_t hi,
                       uint64_t fallback, uint64_t *out, struct hadb_error *err)
{
    const char *value = hadb_url_param(url, name);
    if (!value) {
        *out = fallback;
        return 0;
    }
    if (!hadb_parse_u64(value, lo, hi, out)) {
        return hadb_fail(err, HADB_EINVAL, "url: parameter '%s' must be a number from %llu to %llu",
                         name, (unsigned long long)lo, (unsigned long long)hi);
    }
    return 0;
}

static bool name_in(const char *name, const char *const *names)
{
    for (; *names; names++) {
        if (strcmp(name, *names) == 0) {
            return true;
        }
    }
    return false;
}

int hadb_url_params_known(const struct hadb_url *url, const char *const *names,
                          struct hadb_error *err)
{
    for (size_t i = 0; i < url->params_len; i++) {
        if (!name_in(url->params[i].name, names)) {
            const char *name = url->params[i].name; /* maybe the end of a password */
            return hadb_fail(err, HADB_EINVAL, "url: unknown parameter '%s' for %s:",
                             strchr(name, '@') ? "***" : name, url->scheme);
        }
    }
    return 0;
}

/* ---- what may be shown ---- */

struct shown {
    char *at, *end; /* room for the NUL is kept */
};

static void show(struct shown *out, const char *text, size_t len)
{
    size_t room = (size_t)(out->end - out->at);
    len = HADB_MIN(len, room);
    memcpy(out->at, text, len);
    out->at += len;
    *out->at = '\0';
}

static bool is_secret_name(const char *name, size_t len)
{
    static const char *const words[] = {"secret", "token", "passw",     "pwd",
                                        "key",    "cred",  "signature", "auth"};
    char lower[64];
    size_t at = 0, used = 0;
    while (at < len && used < sizeof lower - 1) {
        int byte = decode_next(name, len, &at);
        if (byte < 0) {
            return true; /* unreadable: better hidden */
        }
        lower[used++] = (char)(byte >= 'A' && byte <= 'Z' ? byte - 'A' + 'a' : byte);
    }
    lower[used] = '\0';
    for (size_t i = 0; i < HADB_LEN(words); i++) {
        if (strstr(lower, words[i])) {
            return true;
        }
    }
    return false;
}

static void show_params(struct shown *out, const char *in)
{
    while (*in) {
        size_t len = strcspn(in, "&");
        const char *equals = memchr(in, '=', len);
        size_t name_len = equals ? (size_t)(equals - in) : len;
        bool at =
            memchr(in, '@', len) != NULL; /* a user of another url, or the end of a password */
        if (equals && (at || is_secret_name(in, name_len))) {
            show(out, in, memchr(in, '@', name_len) ? 0 : name_len + 1);
            show(out, "***", 3);
        } else if (at) {
            show(out, "***", 3);
        } else {
            show(out, in, len);
        }
        in += len;
        if (*in) {
            show(out, in++, 1);
        }
    }
}

/* An '@' comes behind the '?': may what is before it, @len bytes, be the beginning of user:password? */
static bool is_broken(const char *rest, size_t len)
{
    const char *at = strchr(rest + len, '@');
    const char *begin = at;
    while (begin[-1] != '?' && begin[-1] != '&' && begin[-1] != '=') {
        begin--;
    }
    return begin[-1] != '=' || memchr(rest, ':', len) != NULL;
}

const char *hadb_url_redact(const char *url, char *out, size_t out_bytes)
{
    HADB_ASSERT(out_bytes > 0);
    struct shown shown = {.at = out, .end = out + out_bytes - 1};
    out[0] = '\0';
    const char *rest = strchr(url, ':');
    rest = rest ? rest + 1 : url;
    rest += rest[0] == '/' && rest[1] == '/' ? 2 : 0;
    show(&shown, url, (size_t)(rest - url));
    size_t len = strcspn(rest, "?");
    /* A raw '/' or '?' in a password is a mistake that must not show the rest of it; only a path has no user. */
    const char *user_end = rest[0] == '/' ? NULL : memrchr(rest, '@', len);
    const char *later = strchr(rest + len, '@');
    if (user_end || (later && rest[0] != '/' && is_broken(rest, len))) {
        show(&shown, "***", 3);
        len -= user_end ? (size_t)(user_end - rest) : len;
        rest += strcspn(rest, "?") - len;
    }
    show(&shown, rest, len);
    if (rest[len] == '?') {
        show(&shown, "?", 1);
        show_params(&shown, rest + len + 1);
    }
    return out;
}
