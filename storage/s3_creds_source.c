/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the sources of credentials: environment, web identity (STS), shared profile file, container, instance
 * metadata (IMDSv2). Each says "not configured" (HADB_ABSENT), gives credentials, or fails.
 *
 * Thread: any, one caller at a time. Blocks: files and HTTP, until the deadline of the call.
 * Invariants: a token for a container endpoint leaves only to a loopback or link-local address or over TLS; a
 * reply that may hold secrets is wiped before its memory is freed.
 * Failure modes: HADB_EAUTH for what is missing, malformed or refused, HADB_EUNAVAIL for a source that does not
 * answer.
 */
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/url.h"
#include "storage/s3_creds_private.h"
#include "storage/s3_xml.h"

#define CONNECT_MS_MAX 1000u
#define IDLE_MS_MAX 5000u
#define IMDS "http://169.254.169.254"
#define CONTAINER "http://169.254.170.2"

/* Memory that may hold secrets. */
static void wipe_buf(struct hadb_buf *buf)
{
    if (buf->data) {
        OPENSSL_cleanse(buf->data, buf->cap);
    }
    hadb_buf_deinit(buf);
}

static void wipe_reply(struct hadb__http_reply *reply)
{
    wipe_buf(&reply->body);
    OPENSSL_cleanse(reply->error_body, sizeof(reply->error_body));
}

int64_t hadb__s3_parse_time_ms(const char *text)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!rest) {
        return -1;
    }
    if (*rest == '.') {
        rest += 1 + strspn(rest + 1, "0123456789");
    }
    if (strcmp(rest, "Z") != 0 && strcmp(rest, "+00:00") != 0) {
        return -1;
    }
    int64_t seconds = (int64_t)timegm(&tm);
    return seconds < 0 ? -1 : seconds * 1000;
}

/* One word of printable text, as a part of a header or of a path must be. */
static bool is_word(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] <= 0x20 || (unsigned char)text[i] > 0x7e) {
            return false;
        }
    }
    return len > 0;
}

static int make(const char *key_id, const char *secret, const char *token, int64_t expires,
                const char *source, struct hadb__s3_creds **out, struct hadb_error *err)
{
    if (!is_word(key_id, strlen(key_id)) || !is_word(secret, strlen(secret)) ||
        (token && token[0] && !is_word(token, strlen(token)))) {
        return hadb_fail(err, HADB_EAUTH,
                         "%s: a key or token has a blank, an end of line or another byte that is "
                         "not printable ASCII",
                         source);
    }
    *out = hadb__s3_creds_new(key_id, secret, token, expires, source);
    return *out ? 0 : hadb_fail_nomem(err);
}

int hadb__s3_creds_from_json(struct hadb_slice json, const char *source,
                             struct hadb__s3_creds **out, struct hadb_error *err)
{
    json_t *root = json_loadb(json.data ? json.data : "", json.len, JSON_REJECT_DUPLICATES, NULL);
    const char *key_id = NULL, *secret = NULL, *token = NULL, *expiration = NULL;
    int bad = !root ||
              json_unpack(root, "{s:s, s:s, s?s, s?s}", "AccessKeyId", &key_id, "SecretAccessKey",
                          &secret, "Token", &token, "Expiration", &expiration);
    int64_t expires = bad || !expiration ? 0 : hadb__s3_parse_time_ms(expiration);
    int r;
    if (bad || !key_id[0] || !secret[0] || expires < 0) {
        r = hadb_fail(err, HADB_EAUTH, "the answer holds no credentials");
    } else {
        r = make(key_id, secret, token, expires, source, out, err);
    }
    json_decref(root);
    return r;
}

/* One HTTP request to a source: 0 when it answered 200. */
static int ask_http(const struct hadb__s3_sources *s, const struct hadb_call *call,
                    const char *method, const char *url, const struct hadb__http_header *header,
                    struct hadb_slice body, struct hadb__http_reply *reply, struct hadb_error *err)
{
    bool local =
        strncmp(url, "http://", 7) == 0; /* metadata and containers, never behind a proxy */
    struct hadb__http_request request = {
        .method = method,
        .url = url,
        .headers = header,
        .headers_len = header ? 1 : 0,
        .body = body,
        .reply_bytes_max = HADB_S3_CREDS_BYTES_MAX,
        .connect_ms_max = CONNECT_MS_MAX,
        .idle_ms_max = IDLE_MS_MAX,
        .ca = s->ca,
        .direct = local,
    };
    hadb__http_perform(s->http, &request, call, reply);
    if (reply->failure == HADB__HTTP_NO_MEMORY) {
        return hadb_fail_nomem(err);
    }
    if (reply->failure == HADB__HTTP_CANCELED) {
        return hadb_fail(err, HADB_ECANCELED, "cancelled");
    }
    if (reply->failure != HADB__HTTP_FINE) {
        return hadb_fail(err, HADB_EUNAVAIL, "%s", reply->text);
    }
    if (reply->status != 200) {
        int code = reply->status >= 500 || reply->status == 429 ? HADB_EUNAVAIL : HADB_EAUTH;
        return hadb_fail(err, code, "status %d", reply->status);
    }
    return 0;
}

/* --- environment -------------------------------------------------------------------------------- */

static int from_environment(const struct hadb__s3_sources *s, struct hadb__s3_creds **out,
                            struct hadb_error *err)
{
    const char *key_id = s->getvar("AWS_ACCESS_KEY_ID"),
               *secret = s->getvar("AWS_SECRET_ACCESS_KEY");
    if (!key_id && !secret) {
        return HADB_ABSENT;
    }
    if (!key_id || !secret) {
        return hadb_fail(err, HADB_EAUTH, "%s is set and %s is not",
                         key_id ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                         key_id ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
    }
    return make(key_id, secret, s->getvar("AWS_SESSION_TOKEN"), 0, "environment", out, err);
}

/* --- web identity ------------------------------------------------------------------------------- */

static int append_form(struct hadb_buf *form, const char *name, struct hadb_slice value)
{
    int r = hadb_buf_printf(form, "%s%s=", form->len ? "&" : "", name);
    return r ? r : hadb_percent_encode(value, form);
}

static struct hadb_slice trim_end(struct hadb_slice s)
{
    const char *text = s.data;
    while (s.len > 0 && (unsigned char)text[s.len - 1] <= ' ') {
        s.len--;
    }
    return s;
}

static int build_form(struct hadb_slice role, struct hadb_slice session, struct hadb_slice token,
                      struct hadb_buf *form, struct hadb_error *err)
{
    if (session.len == 0) {
        session = hadb_slice_str("hadb");
    }
    int r = append_form(form, "Action", hadb_slice_str("AssumeRoleWithWebIdentity"));
    r = r ? r : append_form(form, "Version", hadb_slice_str("2011-06-15"));
    r = r ? r : append_form(form, "RoleArn", role);
    r = r ? r : append_form(form, "RoleSessionName", session);
    r = r ? r : append_form(form, "WebIdentityToken", trim_end(token));
    return r ? hadb_fail_nomem(err) : 0;
}

static int sts_url(const struct hadb__s3_sources *s, struct hadb_buf *out, struct hadb_error *err)
{
    const char *endpoint = s->getvar("AWS_ENDPOINT_URL_STS");
    bool china = strncmp(s->region, "cn-", 3) == 0;
    int r = endpoint ? hadb_buf_printf(out, "%s/", endpoint)
                     : hadb_buf_printf(out, "https://sts.%s.amazonaws.com%s/", s->region,
                                       china ? ".cn" : "");
    return r || !hadb_buf_cstr(out) ? hadb_fail_nomem(err) : 0;
}

static int read_sts(struct hadb_slice xml, struct hadb__s3_creds **out, struct hadb_error *err)
{
    struct hadb__s3_xml_creds read;
    int r = hadb__s3_xml_sts(xml, &read, err);
    if (r) {
        return r == HADB_ENOMEM ? r : hadb_fail(err, HADB_EAUTH, "the answer holds no credentials");
    }
    int64_t expires = hadb__s3_parse_time_ms(read.expiration);
    r = expires < 0 ? hadb_fail(err, HADB_EAUTH, "the answer names no time at which it expires")
                    : make(read.key_id, read.secret, (const char *)read.token.data, expires,
                           "web identity", out, err);
    wipe_buf(&read.token);
    OPENSSL_cleanse(read.secret, sizeof(read.secret));
    return r;
}

static int assume_role(const struct hadb__s3_sources *s, const struct hadb_call *call,
                       const char *token_file, struct hadb_slice role, struct hadb_slice session,
                       struct hadb__s3_creds **out, struct hadb_error *err)
{
    static const struct hadb__http_header form_type = {"Content-Type",
                                                       "application/x-www-form-urlencoded"};
    HADB_CLEANUP(wipe_buf) struct hadb_buf token = {0};
    HADB_CLEANUP(wipe_buf) struct hadb_buf form = {0};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf url = {0};
    HADB_CLEANUP(wipe_reply) struct hadb__http_reply reply = {0};
    int r = hadb_fs_read_file(&s->env->fs, token_file, HADB_S3_CREDS_BYTES_MAX, &token, err);
    if (r) {
        return hadb_fail(err, r == HADB_ENOMEM ? r : HADB_EAUTH,
                         "web identity: the token file %s cannot be read", token_file);
    }
    r = build_form(role, session, hadb_buf_slice(&token), &form, err);
    r = r ? r : sts_url(s, &url, err);
    if (r) {
        return r;
    }
    r = ask_http(s, call, "POST", (const char *)url.data, &form_type, hadb_buf_slice(&form), &reply,
                 err);
    r = r ? r : read_sts(hadb_buf_slice(&reply.body), out, err);
    return hadb_wrap(err, r, "web identity: %s", (const char *)url.data);
}

static int from_web_identity(const struct hadb__s3_sources *s, const struct hadb_call *call,
                             struct hadb__s3_creds **out, struct hadb_error *err)
{
    const char *file = s->getvar("AWS_WEB_IDENTITY_TOKEN_FILE"), *role = s->getvar("AWS_ROLE_ARN");
    const char *session = s->getvar("AWS_ROLE_SESSION_NAME");
    if (!file) {
        return HADB_ABSENT;
    }
    if (!role) {
        return hadb_fail(err, HADB_EAUTH,
                         "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not");
    }
    return assume_role(s, call, file, hadb_slice_str(role), hadb_slice_str(session ? session : ""),
                       out, err);
}

/* --- shared profile file ------------------------------------------------------------------------ */

/* The file that @variable names, or the one of that name in the home folder; HADB_ABSENT. */
static int read_home_file(const struct hadb__s3_sources *s, const char *variable, const char *name,
                          struct hadb_buf *out, struct hadb_error *err)
{
    char path[HADB_PATH_BYTES_MAX];
    const char *given = s->getvar(variable), *home = s->getvar("HOME");
    if (!given && !home) {
        return HADB_ABSENT;
    }
    int r = given ? 0 : hadb_path_join(path, home, name, err);
    r = r ? r
          : hadb_fs_read_file(&s->env->fs, given ? given : path, HADB_S3_PROFILE_BYTES_MAX, out,
                              err);
    return r < 0 && r != HADB_ENOMEM ? hadb_wrap(err, hadb_fail(err, HADB_EAUTH, "cannot be read"),
                                                 "profile file %s", given ? given : path)
                                     : r;
}

static char *cstr_of(struct hadb_slice s, struct hadb_buf *buf)
{
    hadb_buf_clear(buf);
    return hadb_buf_append(buf, s.data, s.len) || !hadb_buf_cstr(buf) ? NULL : (char *)buf->data;
}

static int make_from_profile(const struct hadb__s3_sources *s, const struct hadb_call *call,
                             const struct hadb__s3_profile *profile, const char *name,
                             struct hadb__s3_creds **out, struct hadb_error *err)
{
    HADB_CLEANUP(wipe_buf) struct hadb_buf a = {0};
    HADB_CLEANUP(wipe_buf) struct hadb_buf b = {0};
    HADB_CLEANUP(wipe_buf) struct hadb_buf c = {0};
    if (profile->key_id.len && profile->secret.len) {
        const char *key_id = cstr_of(profile->key_id, &a), *secret = cstr_of(profile->secret, &b);
        const char *token = cstr_of(profile->token, &c);
        if (!key_id || !secret || !token) {
            return hadb_fail_nomem(err);
        }
        return make(key_id, secret, token, 0, "profile", out, err);
    }
    if (profile->role_arn.len && profile->token_file.len) {
        const char *file = cstr_of(profile->token_file, &a);
        return file ? assume_role(s, call, file, profile->role_arn, profile->session_name, out, err)
                    : hadb_fail_nomem(err);
    }
    return hadb_fail(err, HADB_EAUTH,
                     "profile %s has neither aws_access_key_id with aws_secret_access_key nor "
                     "role_arn with web_identity_token_file",
                     name);
}

static int from_profile(const struct hadb__s3_sources *s, const struct hadb_call *call,
                        struct hadb__s3_creds **out, struct hadb_error *err)
{
    HADB_CLEANUP(wipe_buf) struct hadb_buf credentials = {0};
    HADB_CLEANUP(wipe_buf) struct hadb_buf config = {0};
    const char *chosen = s->profile ? s->profile : s->getvar("AWS_PROFILE");
    const char *name = chosen ? chosen : "default";
    struct hadb__s3_profile profile = {0};
    int r = read_home_file(s, "AWS_CONFIG_FILE", ".aws/config", &config, err);
    if (r < 0) {
        return r;
    }
    r = read_home_file(s, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", &credentials, err);
    if (r < 0) {
        return r;
    }
    hadb__s3_profile_read(hadb_buf_slice(&config), name, true, &profile);
    struct hadb__s3_profile own = {0};
    hadb__s3_profile_read(hadb_buf_slice(&credentials), name, false, &own);
    if (own.key_id.len || own.secret.len) { /* its keys, and no token of the other file's */
        profile.key_id = profile.secret = profile.token = (struct hadb_slice){0};
    }
    hadb__s3_profile_read(hadb_buf_slice(&credentials), name, false, &profile);
    bool has_any = profile.key_id.len || profile.secret.len || profile.role_arn.len;
    if (!chosen && !has_any) {
        return HADB_ABSENT; /* nobody asked for it, and [default] may hold other settings */
    }
    if (!profile.found) {
        return hadb_fail(err, HADB_EAUTH,
                         "there is no profile %s in ~/.aws/credentials or ~/.aws/config", name);
    }
    return make_from_profile(s, call, &profile, name, out, err);
}

/* --- container ---------------------------------------------------------------------------------- */

/* May a token travel there? Over TLS, or to this host. */
static bool is_trusted(const char *url)
{
    static const char *const starts[] = {
        "https://", "http://127.",           "http://localhost",      "http://[::1]",
        CONTAINER,  "http://169.254.170.23", "http://[fd00:ec2::23]",
    };
    for (size_t i = 0; i < HADB_LEN(starts); i++) {
        size_t len = strlen(starts[i]);
        if (strncmp(url, starts[i], len) != 0) {
            continue;
        }
        bool whole = i < 2 || url[len] == '\0' || url[len] == '/' || url[len] == ':';
        bool numbers = i != 1 || strspn(url + 7, "0123456789.") == strcspn(url + 7, ":/");
        if (whole && numbers && !strchr(url, '@')) {
            return true;
        }
    }
    return false;
}

static int container_token(const struct hadb__s3_sources *s, struct hadb_buf *out,
                           struct hadb_error *err)
{
    const char *file = s->getvar("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *token = s->getvar("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    int r = 0;
    if (file) {
        r = hadb_fs_read_file(&s->env->fs, file, HADB_S3_CREDS_BYTES_MAX, out, err);
        if (r) {
            return hadb_fail(err, r == HADB_ENOMEM ? r : HADB_EAUTH,
                             "container: the token file %s cannot be read", file);
        }
        out->len = trim_end(hadb_buf_slice(out)).len;
    } else if (token) {
        r = hadb_buf_append_str(out, token);
    }
    if (r || !hadb_buf_cstr(out)) {
        return hadb_fail_nomem(err);
    }
    if (strcspn((const char *)out->data, "\r\n") != out->len) { /* "Basic …" has a blank */
        return hadb_fail(err, HADB_EAUTH, "%s must be one line",
                         file ? "the file of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
                              : "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    }
    return 0;
}

static int from_container(const struct hadb__s3_sources *s, const struct hadb_call *call,
                          struct hadb__s3_creds **out, struct hadb_error *err)
{
    const char *relative = s->getvar("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = s->getvar("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf url = {0};
    HADB_CLEANUP(wipe_buf) struct hadb_buf token = {0};
    HADB_CLEANUP(wipe_reply) struct hadb__http_reply reply = {0};
    if (!relative && !full) {
        return HADB_ABSENT;
    }
    if (!relative && !is_trusted(full)) {
        return hadb_fail(
            err, HADB_EAUTH,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https or an address of this host");
    }
    int r = relative ? hadb_buf_printf(&url, CONTAINER "%s", relative)
                     : hadb_buf_append_str(&url, full);
    if (r || !hadb_buf_cstr(&url)) {
        return hadb_fail_nomem(err);
    }
    r = container_token(s, &token, err);
    if (r) {
        return r;
    }
    struct hadb__http_header header = {"Authorization", (const char *)token.data};
    r = ask_http(s, call, "GET", (const char *)url.data, token.len ? &header : NULL,
                 (struct hadb_slice){0}, &reply, err);
    r = r ? r : hadb__s3_creds_from_json(hadb_buf_slice(&reply.body), "container", out, err);
    return hadb_wrap(err, r, "container credentials");
}

/* --- instance metadata -------------------------------------------------------------------------- */

static int imds_get(const struct hadb__s3_sources *s, const struct hadb_call *call,
                    const char *base, const char *role, const char *session,
                    struct hadb__http_reply *reply, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf url = {0};
    struct hadb__http_header header = {"X-aws-ec2-metadata-token", session};
    if (hadb_buf_printf(&url, "%s/latest/meta-data/iam/security-credentials/%s", base, role) ||
        !hadb_buf_cstr(&url)) {
        return hadb_fail_nomem(err);
    }
    return ask_http(s, call, "GET", (const char *)url.data, &header, (struct hadb_slice){0}, reply,
                    err);
}

static int imds_session(const struct hadb__s3_sources *s, const struct hadb_call *call,
                        const char *base, struct hadb__http_reply *reply, struct hadb_error *err)
{
    static const struct hadb__http_header ttl = {"X-aws-ec2-metadata-token-ttl-seconds", "21600"};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf url = {0};
    if (hadb_buf_printf(&url, "%s/latest/api/token", base) || !hadb_buf_cstr(&url)) {
        return hadb_fail_nomem(err);
    }
    return ask_http(s, call, "PUT", (const char *)url.data, &ttl, (struct hadb_slice){0}, reply,
                    err);
}

static int from_imds(const struct hadb__s3_sources *s, const struct hadb_call *call,
                     struct hadb__s3_creds **out, struct hadb_error *err)
{
    const char *disabled = s->getvar("AWS_EC2_METADATA_DISABLED");
    const char *base = s->getvar("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    HADB_CLEANUP(wipe_buf) struct hadb_buf session = {0};
    HADB_CLEANUP(wipe_buf) struct hadb_buf role = {0};
    HADB_CLEANUP(wipe_reply) struct hadb__http_reply reply = {0};
    if (disabled && strcmp(disabled, "true") == 0) {
        return HADB_ABSENT;
    }
    base = base ? base : IMDS;
    int r = imds_session(s, call, base, &reply, err);
    if (r) {
        return r;
    }
    session = hadb_buf_take(&reply.body);
    session.len = trim_end(hadb_buf_slice(&session)).len;
    if (!hadb_buf_cstr(&session)) {
        return hadb_fail_nomem(err);
    }
    if (!is_word((const char *)session.data, session.len)) {
        return hadb_fail(err, HADB_EAUTH, "instance metadata: the session token is malformed");
    }
    r = imds_get(s, call, base, "", (const char *)session.data, &reply, err);
    if (r) {
        return r;
    }
    role = hadb_buf_take(&reply.body);
    role.len = strcspn(hadb_buf_cstr(&role) ? (const char *)role.data : "", "\r\n ");
    if (!role.data || !hadb_buf_cstr(&role)) {
        return hadb_fail_nomem(err);
    }
    if (!is_word((const char *)role.data, role.len)) {
        return hadb_fail(err, HADB_EAUTH, "instance metadata: this instance has no role");
    }
    r = imds_get(s, call, base, (const char *)role.data, (const char *)session.data, &reply, err);
    return r ? r
             : hadb__s3_creds_from_json(hadb_buf_slice(&reply.body), "instance metadata", out, err);
}

/* --- the order ---------------------------------------------------------------------------------- */

int hadb__s3_sources_ask(const struct hadb__s3_sources *s, const struct hadb_call *call,
                         struct hadb__s3_creds **out, struct hadb_error *err)
{
    struct hadb_error why = {0};
    if (s->profile) {
        return from_profile(s, call, out, err);
    }
    int r = from_environment(s, out, err);
    r = r == HADB_ABSENT ? from_web_identity(s, call, out, err) : r;
    r = r == HADB_ABSENT ? from_profile(s, call, out, err) : r;
    r = r == HADB_ABSENT ? from_container(s, call, out, err) : r;
    if (r != HADB_ABSENT) {
        return r;
    }
    r = from_imds(s, call, out, &why);
    if (r == 0 || r == HADB_ENOMEM || r == HADB_ECANCELED) {
        return r < 0 ? hadb_fail(err, r, "%s", why.message) : r;
    }
    return hadb_fail(err, HADB_EAUTH,
                     "no credentials for s3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a "
                     "profile, web identity or container; instance metadata: %s",
                     r == HADB_ABSENT ? "disabled" : why.message);
}
