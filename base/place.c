/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns reading what the URLs of servers have in common, "scheme://[user[:password]@]host[:port][,…]/…?…",
 * and the verdict on a server that was not heard.
 *
 * Thread: any; no state.
 * Invariants: secrets are wiped when they are freed and part of no message.
 * Failure modes: HADB_EINVAL naming the part; HADB_EIO or HADB_EAUTH for a password file; HADB_ENOMEM.
 */
#include "base/place.h"

#include <openssl/crypto.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/fs.h"

#define CONNECT_MS_DEFAULT 3000u
#define IDLE_MS_DEFAULT 10000u
#define LIMIT_MS_MAX 600000u
#define HOST_BYTES_MAX 255u

void hadb__secret_free(char *secret)
{
    if (secret) {
        OPENSSL_cleanse(secret, strlen(secret));
        hadb_free(secret);
    }
}

void hadb__net_place_deinit(struct hadb__net_place *place)
{
    for (size_t i = 0; i < place->hosts_len; i++) {
        hadb_free(place->hosts[i].name);
    }
    hadb__secret_free(place->user);
    hadb__secret_free(place->password);
    hadb_free(place->ca);
    hadb_free(place->cert);
    hadb_free(place->key);
    *place = (struct hadb__net_place){0};
}

static int copy_param(const struct hadb_url *url, const char *name, char **out,
                      struct hadb_error *err)
{
    const char *value = hadb_url_param(url, name);
    if (!value) {
        return 0;
    }
    *out = hadb_strdup(value);
    return *out ? 0 : hadb_fail_nomem(err);
}

static int copy_bytes(const char *text, size_t len, char **out, struct hadb_error *err)
{
    *out = hadb_calloc(1, len + 1);
    if (!*out) {
        return hadb_fail_nomem(err);
    }
    memcpy(*out, text, len);
    return 0;
}

/* "user", "user:password" or ":password"; @len bytes, decoded. */
static int read_user(const char *text, size_t len, struct hadb__net_place *out,
                     struct hadb_error *err)
{
    const char *colon = memchr(text, ':', len);
    size_t user_len = colon ? (size_t)(colon - text) : len;
    int r = user_len ? copy_bytes(text, user_len, &out->user, err) : 0;
    if (r || !colon) {
        return r;
    }
    return copy_bytes(colon + 1, len - user_len - 1, &out->password, err);
}

static bool host_valid(const char *name, size_t len)
{
    bool address = len > 2 && name[0] == '[' && name[len - 1] == ']';
    for (size_t i = address ? 1 : 0; i < (address ? len - 1 : len); i++) {
        char c = name[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '.' || (address ? c == ':' : c == '-' || c == '_');
        if (!word) {
            return false;
        }
    }
    return len >= 1 && len <= HOST_BYTES_MAX;
}

static bool host_is_loopback(const char *name)
{
    return strcmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0 ||
           (strncmp(name, "127.", 4) == 0 && strspn(name, "0123456789.") == strlen(name));
}

/* One "host", "host:port", "[::1]:port". */
static int read_host(const char *text, size_t len, uint16_t port_default,
                     struct hadb__net_place *out, struct hadb_error *err)
{
    struct hadb__net_place_host *host = &out->hosts[out->hosts_len];
    size_t name_len = len;
    while (name_len > 0 && text[name_len - 1] != ':' && text[name_len - 1] != ']') {
        name_len--;
    }
    bool has_port = name_len > 0 && text[name_len - 1] == ':';
    name_len = has_port ? name_len - 1 : len;
    uint64_t port = port_default;
    char digits[8] = "";
    if (has_port && len - name_len - 1 < sizeof(digits)) {
        memcpy(digits, text + name_len + 1, len - name_len - 1);
    }
    if (!host_valid(text, name_len) || (has_port && !hadb_parse_u64(digits, 1, 65535, &port))) {
        return hadb_fail(err, HADB_EINVAL, /* and does not show it: it may be of a password */
                         "host %zu of the url must be host, host:port or [address]:port",
                         out->hosts_len + 1);
    }
    int r = copy_bytes(text, name_len, &host->name, err);
    if (r) {
        return r;
    }
    host->port = (uint16_t)port;
    out->hosts_len++;
    out->loopback = (out->hosts_len == 1 || out->loopback) && host_is_loopback(host->name);
    return 0;
}

static int read_hosts(const char *text, uint16_t port_default, size_t hosts_max,
                      struct hadb__net_place *out, struct hadb_error *err)
{
    for (;;) {
        size_t len = strcspn(text, ",");
        if (out->hosts_len == hosts_max) {
            return hadb_fail(err, HADB_EINVAL, "more than %zu hosts", hosts_max);
        }
        int r = read_host(text, len, port_default, out, err);
        if (r || text[len] == '\0') {
            return r;
        }
        text += len + 1;
    }
}

/* One line of a file, without the end of the line. */
static int read_password_file(const struct hadb_url *url, const struct hadb_env *env,
                              struct hadb__net_place *out, struct hadb_error *err)
{
    const char *path = hadb_url_param(url, "password_file");
    struct hadb_buf bytes = {0};
    if (!path) {
        return 0;
    }
    if (out->password) {
        return hadb_fail(err, HADB_EINVAL, "a password and password_file=: give one of them");
    }
    int r = hadb_fs_read_file(&env->fs, path, HADB_PLACE_SECRET_BYTES_MAX, &bytes, err);
    if (r == HADB_ABSENT) {
        r = hadb_fail(err, HADB_EINVAL, "password_file=%.100s is not there", path);
    }
    while (r == 0 && bytes.len > 0 && strchr("\r\n", bytes.data[bytes.len - 1])) {
        bytes.len--;
    }
    if (r == 0 && (bytes.len == 0 || memchr(bytes.data, '\n', bytes.len) ||
                   memchr(bytes.data, '\0', bytes.len))) {
        r = hadb_fail(err, HADB_EINVAL, "password_file=%.100s must hold one line", path);
    }
    if (r == 0) {
        const char *line = hadb_buf_cstr(&bytes);
        out->password = line ? hadb_strdup(line) : NULL;
        r = out->password ? 0 : hadb_fail_nomem(err);
    }
    if (bytes.data) {
        OPENSSL_cleanse(bytes.data, bytes.cap);
    }
    hadb_buf_deinit(&bytes);
    return r;
}

static int read_limits(const struct hadb_url *url, struct hadb__net_place *out,
                       struct hadb_error *err)
{
    uint64_t connect_ms = 0, idle_ms = 0;
    int r = hadb_url_param_u64(url, "connect_timeout_ms", 1, LIMIT_MS_MAX, CONNECT_MS_DEFAULT,
                               &connect_ms, err);
    r = r ? r
          : hadb_url_param_u64(url, "idle_timeout_ms", 1, LIMIT_MS_MAX, IDLE_MS_DEFAULT, &idle_ms,
                               err);
    out->connect_ms_max = (uint32_t)connect_ms;
    out->idle_ms_max = (uint32_t)idle_ms;
    return r;
}

static int place_read(const struct hadb_url *url, const struct hadb_env *env, uint16_t port_default,
                      size_t hosts_max, struct hadb__net_place *out, struct hadb_error *err)
{
    const char *at = strrchr(url->authority, '@'); /* one user for all hosts, before the first */
    if (strchr(url->path, '@')) { /* then what seems to be the host is a part of the password */
        return hadb_fail(err, HADB_EINVAL,
                         "an '@' behind the first '/': write @ : / ? # %% in a user or password "
                         "as %%40 %%3A %%2F %%3F %%23 %%25");
    }
    int r = at ? read_user(url->authority, (size_t)(at - url->authority), out, err) : 0;
    r = r ? r : read_hosts(at ? at + 1 : url->authority, port_default, hosts_max, out, err);
    r = r ? r : read_password_file(url, env, out, err);
    r = r ? r : read_limits(url, out, err);
    r = r ? r : copy_param(url, "ca", &out->ca, err);
    r = r ? r : copy_param(url, "cert", &out->cert, err);
    r = r ? r : copy_param(url, "key", &out->key, err);
    if (r == 0 && !out->tls && (out->ca || out->cert || out->key)) {
        return hadb_fail(err, HADB_EINVAL, "ca=, cert= and key= are for TLS, which is off");
    }
    if (r == 0 && !out->cert != !out->key) {
        return hadb_fail(err, HADB_EINVAL, "cert= and key= go together");
    }
    return r;
}

int hadb__net_place_open(const struct hadb_url *url, const struct hadb_env *env,
                         const char *component, bool tls, uint16_t port_default, size_t hosts_max,
                         struct hadb__net_place *out, struct hadb_error *err)
{
    HADB_ASSERT(hosts_max >= 1 && hosts_max <= HADB_PLACE_HOSTS_MAX);
    struct hadb__net_place place = {.tls = tls};
    int r = place_read(url, env, port_default, hosts_max, &place, err);
    if (r) {
        hadb__net_place_deinit(&place);
        return r;
    }
    if ((place.password || place.user) && !tls && !place.loopback) {
        hadb_log(env, HADB_LOG_WARN, component, NULL,
                 "%s://%s: the password travels in clear: use TLS", url->scheme,
                 place.hosts[0].name);
    }
    *out = place;
    return 0;
}

int hadb__net_prefix_copy(const char *text, char **out, struct hadb_error *err)
{
    size_t len = strnlen(text, HADB_PLACE_PREFIX_BYTES_MAX + 1);
    if (len > HADB_PLACE_PREFIX_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "the prefix is longer than %u bytes",
                         HADB_PLACE_PREFIX_BYTES_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return hadb_fail(err, HADB_EINVAL, "the prefix has a control character at %zu", i);
        }
    }
    *out = hadb_strdup(text);
    return *out ? 0 : hadb_fail_nomem(err);
}

static int code_of_failure(enum hadb__http_failure failure, bool writes, bool sent)
{
    if (writes && sent) {
        return HADB_ETIMEDOUT;
    }
    switch (failure) {
    case HADB__HTTP_CANCELED:
        return HADB_ECANCELED;
    case HADB__HTTP_NO_MEMORY:
        return HADB_ENOMEM;
    case HADB__HTTP_UNTRUSTED:
        return HADB_EAUTH;
    case HADB__HTTP_TOO_BIG:
        return HADB_ETOOBIG;
    case HADB__HTTP_LATE:
        return writes ? HADB_EUNAVAIL : HADB_ETIMEDOUT;
    case HADB__HTTP_IDLE:
        return sent ? HADB_ETIMEDOUT : HADB_EUNAVAIL;
    case HADB__HTTP_UNREACHABLE:
        return HADB_EUNAVAIL;
    default:
        return sent ? HADB_EIO : HADB_EUNAVAIL;
    }
}

int hadb__net_unheard(enum hadb__http_failure failure, bool writes, bool sent, const char *text,
                      struct hadb_error *err)
{
    int code = code_of_failure(failure, writes, sent);
    const char *advice = hadb__http_advice(failure, text);
    hadb_fail(err, code, "%s", text);
    return advice ? hadb_advise(err, code, advice) : code;
}
