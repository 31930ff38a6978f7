/* SPDX-License-Identifier: Apache-2.0 */
/* URLs as backends use them: scheme:[//authority][/path][?name=value&…], percent-decoding. Any thread. */
#ifndef HADB_BASE_URL_H
#define HADB_BASE_URL_H
#include "hadb/error.h"

#define HADB_URL_PARAMS_MAX 16u
struct hadb_url {
    char *text;            /* owns the memory behind all other members */
    const char *scheme;    /* lower case */
    const char *authority; /* "" when absent */
    const char *path;      /* decoded; for "mem:NAME" the name; "" when absent */
    struct hadb_url_param {
        const char *name, *value; /* decoded */
    } params[HADB_URL_PARAMS_MAX];
    size_t params_len;
};
int hadb_url_parse(const char *url, struct hadb_url *out, struct hadb_error *err); /* HADB_EINVAL */
void hadb_url_deinit(struct hadb_url *url);
const char *hadb_url_param(const struct hadb_url *url, const char *name); /* NULL when absent */
/* @fallback when absent; HADB_EINVAL names the parameter when it is not a number in lo..hi. */
int hadb_url_param_u64(const struct hadb_url *url, const char *name, uint64_t lo, uint64_t hi,
                       uint64_t fallback, uint64_t *out, struct hadb_error *err);
/* HADB_EINVAL naming the first parameter that is not in the NULL-terminated list. */
int hadb_url_params_known(const struct hadb_url *url, const char *const *names,
                          struct hadb_error *err);
/*
 * What may be shown of a URL, also of a malformed one: user info and the values of parameters that look like
 * secrets (secret, token, password, key, credential, signature in their name) become "***". Cut to fit;
 * returns @out.
 */
const char *hadb_url_redact(const char *url, char *out, size_t out_bytes);
#define HADB_URL_SHOWN_BYTES 200u /* room that messages give to a URL */
/* Percent-decodes @len bytes into @out; false on a bad escape. '+' stays '+'. */
bool hadb_percent_decode(const char *in, size_t len, struct hadb_buf *out);
/* Percent-encodes everything but unreserved characters (RFC 3986 2.3); returns 0 or HADB_ENOMEM. */
int hadb_percent_encode(struct hadb_slice in, struct hadb_buf *out);
/* Unsigned decimal with bounds, the whole string. */
bool hadb_parse_u64(const char *text, uint64_t lo, uint64_t hi, uint64_t *out);
#endif
