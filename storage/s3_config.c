/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns reading "s3://bucket/prefix?…" and what the environment adds to it: where requests go, and how.
 *
 * Thread: any; no state.
 * Invariants: origin, host and base_path are what requests are sent to and signed with; the endpoint has no
 * user, query or fragment, so nothing that may be printed holds a secret.
 * Failure modes: HADB_EINVAL naming the parameter, HADB_ENOMEM.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/url.h"
#include "storage/key.h"
#include "storage/s3_private.h"

#define CONNECT_MS_DEFAULT 3000u
#define IDLE_MS_DEFAULT 10000u
#define LIMIT_MS_MAX 600000u

void hadb__s3_config_deinit(struct hadb__s3_config *config)
{
    char *texts[] = {config->bucket,    config->prefix, config->region,
                     config->endpoint,  config->origin, config->host,
                     config->base_path, config->ca,     config->profile};
    for (size_t i = 0; i < HADB_LEN(texts); i++) {
        hadb_free(texts[i]);
    }
    *config = (struct hadb__s3_config){0};
}

/* Only of the bytes that @extra names, letters and digits; 1..max of them. */
static bool made_of(const char *text, const char *extra, size_t max)
{
    size_t len = strnlen(text, max + 1);
    for (size_t i = 0; i < len; i++) {
        bool plain = (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z') ||
                     (text[i] >= '0' && text[i] <= '9');
        if (!plain && !strchr(extra, text[i])) {
            return false;
        }
    }
    return len >= 1 && len <= max;
}

static int copy(char **out, const char *text, struct hadb_error *err)
{
    *out = hadb_strdup(text);
    return *out ? 0 : hadb_fail_nomem(err);
}

static int read_names(const struct hadb_url *url, struct hadb__s3_config *out,
                      struct hadb_error *err)
{
    const char *path = url->path[0] == '/' ? url->path + 1 : url->path;
    if (strlen(url->authority) < 3 || !made_of(url->authority, ".-_", 63) ||
        url->authority[0] == '.') {
        return hadb_fail(err, HADB_EINVAL,
                         "s3 url: a bucket has 3 to 63 of [A-Za-z0-9._-], as in s3://bucket/dir");
    }
    int r = copy(&out->bucket, url->authority, err);
    r = r ? r : copy(&out->prefix, path, err);
    size_t len = r ? 0 : strlen(out->prefix);
    if (len > 0 && out->prefix[len - 1] == '/') {
        out->prefix[--len] = '\0';
    }
    if (r == 0 && len > HADB_S3_PREFIX_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "s3 url: the prefix is longer than %u bytes",
                         HADB_S3_PREFIX_BYTES_MAX);
    }
    r = r || len == 0 ? r : hadb__object_key_check(out->prefix, err);
    return hadb_wrap(err, r, "s3 url: prefix behind the bucket");
}

static int read_region(const struct hadb_url *url, hadb__s3_getvar_fn getvar, bool own_endpoint,
                       struct hadb__s3_config *out, struct hadb_error *err)
{
    const char *region = hadb_url_param(url, "region");
    region = region ? region : getvar("AWS_REGION");
    region = region ? region : getvar("AWS_DEFAULT_REGION");
    if (!region && !own_endpoint) {
        return hadb_fail(err, HADB_EINVAL, "s3 url: no region; add region=NAME or set AWS_REGION");
    }
    region = region ? region : "us-east-1"; /* what servers of other makers expect */
    if (!made_of(region, "-_", 39)) {
        return hadb_fail(err, HADB_EINVAL, "s3 url: region must be a name such as eu-central-1");
    }
    return copy(&out->region, region, err);
}

/* The parts of an endpoint, in curl's memory. */
struct endpoint {
    CURLU *url;
    char *scheme, *host, *port, *path, *query, *user;
};

static void endpoint_deinit(struct endpoint *e)
{
    char *parts[] = {e->scheme, e->host, e->port, e->path, e->query, e->user};
    for (size_t i = 0; i < HADB_LEN(parts); i++) {
        curl_free(parts[i]);
    }
    curl_url_cleanup(e->url);
}

static int endpoint_read(const char *text, struct endpoint *e, struct hadb_error *err)
{
    e->url = curl_url();
    if (!e->url) {
        return hadb_fail_nomem(err);
    }
    if (curl_url_set(e->url, CURLUPART_URL, text, 0) != CURLUE_OK ||
        curl_url_get(e->url, CURLUPART_SCHEME, &e->scheme, 0) != CURLUE_OK ||
        curl_url_get(e->url, CURLUPART_HOST, &e->host, 0) != CURLUE_OK ||
        curl_url_get(e->url, CURLUPART_PATH, &e->path, 0) != CURLUE_OK) {
        return hadb_fail(err, HADB_EINVAL,
                         "s3 url: endpoint must be an address such as http://127.0.0.1:9000");
    }
    (void)curl_url_get(e->url, CURLUPART_PORT, &e->port, CURLU_NO_DEFAULT_PORT);
    (void)curl_url_get(e->url, CURLUPART_QUERY, &e->query, 0);
    (void)curl_url_get(e->url, CURLUPART_USER, &e->user, 0);
    if (strcmp(e->scheme, "http") != 0 && strcmp(e->scheme, "https") != 0) {
        return hadb_fail(err, HADB_EINVAL, "s3 url: endpoint must be http:// or https://");
    }
    if (e->query || e->user || strcmp(e->path, "/") != 0) {
        return hadb_fail(err, HADB_EINVAL,
                         "s3 url: endpoint must have no path, user or parameters");
    }
    return 0;
}

static bool is_address(const char *host)
{
    return host[0] == '[' || strspn(host, "0123456789.") == strlen(host);
}

static bool is_loopback(const char *host)
{
    return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
           (is_address(host) && strncmp(host, "127.", 4) == 0);
}

static int print(char **out, struct hadb_error *err, const char *fmt, const char *a, const char *b,
                 const char *c, const char *d)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf text = {0};
    for (const char *f = fmt; *f; f++) { /* one letter stands for one text */
        const char *part = *f == 'a' ? a : *f == 'b' ? b : *f == 'c' ? c : d;
        if (hadb_buf_append_str(&text, part)) {
            return hadb_fail_nomem(err);
        }
    }
    const char *all = hadb_buf_cstr(&text);
    return all ? copy(out, all, err) : hadb_fail_nomem(err);
}

static int use_endpoint(const struct endpoint *e, bool path_style, struct hadb__s3_config *out,
                        struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf port = {0};
    if (e->port && hadb_buf_printf(&port, ":%s", e->port)) {
        return hadb_fail_nomem(err);
    }
    const char *end = e->port ? hadb_buf_cstr(&port) : "";
    if (!end) {
        return hadb_fail_nomem(err);
    }
    out->tls = strcmp(e->scheme, "https") == 0;
    out->loopback = is_loopback(e->host);
    const char *before = path_style ? "" : out->bucket, *dot = path_style ? "" : ".";
    int r = print(&out->endpoint, err, "abcd", e->scheme, "://", e->host, end);
    r = r ? r : print(&out->host, err, "abcd", before, dot, e->host, end);
    r = r ? r : print(&out->origin, err, "abc", e->scheme, "://", out->host, "");
    return r ? r
             : print(&out->base_path, err, "ab", path_style ? "/" : "",
                     path_style ? out->bucket : "", "", "");
}

static int read_endpoint(const struct hadb_url *url, const char *given, struct hadb__s3_config *out,
                         struct hadb_error *err)
{
    char aws[128];
    bool china = strncmp(out->region, "cn-", 3) == 0;
    snprintf(aws, sizeof(aws), "https://s3.%s.amazonaws.com%s", out->region, china ? ".cn" : "");
    HADB_CLEANUP(endpoint_deinit) struct endpoint e = {0};
    int r = endpoint_read(given ? given : aws, &e, err);
    /* Servers of other makers rarely have a name per bucket; a dot in a name does not fit certificates. */
    bool must = r == 0 && (is_address(e.host) || strpbrk(out->bucket, "._"));
    uint64_t path_style = 0;
    r = r ? r : hadb_url_param_u64(url, "path_style", 0, 1, given || must, &path_style, err);
    if (r == 0 && !path_style && must) {
        return hadb_fail(
            err, HADB_EINVAL,
            "s3 url: this bucket and endpoint need path_style=1: no host name can be made");
    }
    return r ? r : use_endpoint(&e, path_style, out, err);
}

static int read_limits(const struct hadb_url *url, struct hadb__s3_config *out,
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

static int config_read(const struct hadb_url *url, hadb__s3_getvar_fn getvar,
                       struct hadb__s3_config *out, struct hadb_error *err)
{
    static const char *const known[] = {
        "endpoint",           "region",          "path_style", "ca", "profile",
        "connect_timeout_ms", "idle_timeout_ms", NULL};
    const char *endpoint = hadb_url_param(url, "endpoint");
    const char *ca = hadb_url_param(url, "ca"), *profile = hadb_url_param(url, "profile");
    endpoint = endpoint ? endpoint : getvar("AWS_ENDPOINT_URL_S3");
    endpoint = endpoint ? endpoint : getvar("AWS_ENDPOINT_URL");
    ca = ca ? ca : getvar("AWS_CA_BUNDLE");
    int r = hadb_url_params_known(url, known, err);
    r = r ? r : read_names(url, out, err);
    r = r ? r : read_region(url, getvar, endpoint != NULL, out, err);
    r = r ? r : read_endpoint(url, endpoint, out, err);
    r = r ? r : read_limits(url, out, err);
    r = r || !ca ? r : copy(&out->ca, ca, err);
    return r || !profile ? r : copy(&out->profile, profile, err);
}

int hadb__s3_config_open(const struct hadb_url *url, hadb__s3_getvar_fn getvar,
                         struct hadb__s3_config *out, struct hadb_error *err)
{
    struct hadb__s3_config config = {0};
    int r = config_read(url, getvar, &config, err);
    if (r) {
        hadb__s3_config_deinit(&config);
        return r;
    }
    *out = config;
    return 0;
}
