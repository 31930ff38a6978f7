/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials of the S3 backend: every source, their order, refreshing before they expire, and that secrets
 * are neither logged nor left in memory. STS, container and instance metadata are played by the scripted server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/thread.h"
#include "storage/s3_creds_private.h"
#include "storage/s3_sign.h"
#include "tests/support/support.h"
#include "tests/unit/storage/s3_control.h"

#define T0_MS 1767225600000 /* 2026-01-01T00:00:00Z */
#define MINUTE_MS 60000

/* The environment, clocks and log of a test. */
static struct {
    struct {
        char name[64], value[512];
    } vars[16];
    size_t vars_len;
    int64_t unix_ms;
    uint64_t boot_ms;
    char log[4096];
} world;

static const char *getvar(const char *name)
{
    for (size_t i = 0; i < world.vars_len; i++) {
        if (strcmp(world.vars[i].name, name) == 0) {
            return world.vars[i].value;
        }
    }
    return NULL;
}

HADB_PRINTF(2, 3)
static void set(const char *name, const char *fmt, ...)
{
    va_list args;
    assert_true(world.vars_len < HADB_LEN(world.vars));
    snprintf(world.vars[world.vars_len].name, sizeof(world.vars[0].name), "%s", name);
    va_start(args, fmt);
    vsnprintf(world.vars[world.vars_len].value, sizeof(world.vars[0].value), fmt, args);
    va_end(args);
    world.vars_len++;
}

static int64_t now_unix_ms(void *arg)
{
    (void)arg;
    return world.unix_ms;
}

static uint64_t now_ms(void *arg)
{
    (void)arg;
    return world.boot_ms;
}

static void keep_log(void *arg, enum hadb_log_level level, const char *component,
                     const char *database, const char *text)
{
    (void)arg, (void)level, (void)component, (void)database;
    size_t len = strlen(world.log);
    snprintf(world.log + len, sizeof(world.log) - len, "%s\n", text);
}

struct fixture {
    struct hadb_env env;
    char dir[HADB_PATH_BYTES_MAX];
    struct hadb__s3_provider *provider;
    struct hadb__s3_creds *creds;
    struct hadb_error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    memset(&world, 0, sizeof(world));
    world.unix_ms = T0_MS;
    world.boot_ms = 1000;
    f->env = *hadb_env_host();
    f->env.now_unix_ms = now_unix_ms;
    f->env.now_ms = now_ms;
    f->env.log = keep_log;
    f->env.log_level = HADB_LOG_TRACE;
    test_tmp_make(f->dir);
    s3_tell("{\"reset\": true}");
    set("AWS_EC2_METADATA_DISABLED", "true");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hadb__s3_creds_unref(f->creds);
    hadb__s3_provider_close(f->provider);
    test_tmp_remove(f->dir);
    s3_tell("{\"reset\": true}");
    free(f);
    return 0;
}

static void open_provider(struct fixture *f, const char *profile)
{
    struct hadb__s3_provider_options options = {
        .env = &f->env, .getvar = getvar, .profile = profile, .region = "us-east-1"};
    hadb__s3_provider_close(f->provider);
    f->provider = NULL;
    assert_int_equal(hadb__s3_provider_open(&options, &f->provider, &f->err), 0);
}

/* Fresh credentials in f->creds. */
static int get(struct fixture *f)
{
    hadb__s3_creds_unref(f->creds);
    f->creds = NULL;
    f->err = (struct hadb_error){0};
    if (!f->provider) {
        open_provider(f, NULL);
    }
    return hadb__s3_provider_get(f->provider, NULL, &f->creds, &f->err);
}

static void write_file(struct fixture *f, const char *name, const char *text)
{
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_fs fs = hadb_fs_host();
    assert_int_equal(hadb_path_join(path, f->dir, name, NULL), 0);
    assert_int_equal(hadb_fs_replace_file(&fs, path, hadb_slice_str(text), NULL), 0);
}

static void assert_creds(const struct fixture *f, const char *key_id, const char *secret,
                         const char *token, const char *source)
{
    assert_non_null(f->creds);
    assert_string_equal(f->creds->key_id, key_id);
    assert_string_equal(f->creds->secret, secret);
    assert_string_equal(f->creds->token ? f->creds->token : "", token);
    assert_string_equal(f->creds->source, source);
}

#define assert_says(f, text)                                              \
    do {                                                                  \
        if (!strstr((f)->err.message, (text))) {                          \
            fail_msg("'%s' does not say '%s'", (f)->err.message, (text)); \
        }                                                                 \
    } while (0)

/* JSON of credentials that are good until @minutes after T0 (< 60). */
static const char *json(const char *key_id, int minutes)
{
    static char text[256];
    snprintf(text, sizeof(text),
             "{\"AccessKeyId\": \"%s\", \"SecretAccessKey\": \"S-%s\", \"Token\": \"T-%s\", "
             "\"Expiration\": \"2026-01-01T00:%02d:00Z\"}",
             key_id, key_id, key_id, minutes);
    return text;
}

static void use_container(struct fixture *f, const char *key_id, int minutes)
{
    (void)f;
    s3_tell("{\"set\": {\"container\": {\"token\": \"t\", \"credentials\": %s}}}",
            json(key_id, minutes));
    if (!getvar("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "%s/-/container", s3_origin());
        set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "t");
    }
}

/* --- sources ------------------------------------------------------------------------------------- */

static void environment__gives_keys_and_token(void **state)
{
    struct fixture *f = *state;
    set("AWS_ACCESS_KEY_ID", "AK");
    set("AWS_SECRET_ACCESS_KEY", "SK");
    assert_int_equal(get(f), 0);
    assert_creds(f, "AK", "SK", "", "environment");
    set("AWS_SESSION_TOKEN", "TK");
    open_provider(f, NULL);
    assert_int_equal(get(f), 0);
    assert_creds(f, "AK", "SK", "TK", "environment");
}

static void environment__with_half_of_the_pair_is_an_error(void **state)
{
    struct fixture *f = *state;
    set("AWS_ACCESS_KEY_ID", "AK");
    assert_int_equal(get(f), HADB_EAUTH);
    assert_says(f, "AWS_SECRET_ACCESS_KEY is not");
}

/* Keys become parts of headers: what ends a line there would begin another header. */
static void key__that_is_not_one_printable_word_is_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN"};
    static const char *const ends[] = {"\n", "\r\nx-evil: 1", " ", "\xc3\xa9", "\x7f"};
    for (size_t i = 0; i < HADB_LEN(names); i++) {
        for (size_t e = 0; e < HADB_LEN(ends); e++) {
            world.vars_len = 0;
            for (size_t n = 0; n < HADB_LEN(names); n++) {
                set(names[n], "hush%s", n == i ? ends[e] : "");
            }
            open_provider(f, NULL);
            assert_int_equal(get(f), HADB_EAUTH);
            assert_says(f, "environment");
            assert_null(strstr(f->err.message, "hush"));
        }
    }
    world.vars_len = 0;
    set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hush\r\nx-evil: 1");
    use_container(f, "GOOD", 59);
    open_provider(f, NULL);
    assert_int_equal(get(f), HADB_EAUTH);
    assert_says(f, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    assert_null(strstr(f->err.message, "hush"));
}

static void nothing__configured_names_what_could_be(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(get(f), HADB_EAUTH);
    assert_says(f, "AWS_ACCESS_KEY_ID");
    assert_says(f, "disabled");
}

static const char credentials_file[] =
    "# mine\n[default]\naws_access_key_id = DA\naws_secret_access_key=DS # a remark\n\n"
    "[ other ]\r\naws_access_key_id=OA\r\n  aws_access_key_id = nested\r\n"
    "aws_secret_access_key = O/S+=\r\n"
    "aws_session_token = 0123456789012345678901234567890123456789012345678901234567890123456789"
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"
    "01234567890123456789012345678901234567890123456789#012345678901234567890123456789012345678\n"
    "[empty]\nregion = x\n[default]\naws_session_token = DT\n";

static void profile__is_read_from_the_shared_files(void **state)
{
    struct fixture *f = *state;
    struct hadb_fs fs = hadb_fs_host();
    char path[HADB_PATH_BYTES_MAX];
    set("HOME", "%s", f->dir);
    assert_int_equal(hadb_path_join(path, f->dir, ".aws", NULL), 0);
    assert_int_equal(hadb_fs_mkdir(&fs, path, NULL), 0);
    write_file(f, ".aws/credentials", credentials_file);
    write_file(f, ".aws/config",
               "[profile sso]\naws_access_key_id = CA\naws_secret_access_key = CS\n[sso]\n"
               "aws_access_key_id = wrong\n");
    assert_int_equal(get(f), 0);
    assert_creds(f, "DA", "DS", "DT", "profile");
    open_provider(f, "other");
    assert_int_equal(get(f), 0);
    assert_string_equal(f->creds->key_id, "OA");
    assert_string_equal(f->creds->secret, "O/S+=");
    assert_true(strlen(f->creds->token) > 190);
    open_provider(f, "sso");
    assert_int_equal(get(f), 0);
    assert_creds(f, "CA", "CS", "", "profile");
    open_provider(f, "empty");
    assert_int_equal(get(f), HADB_EAUTH);
    assert_says(f, "profile empty has neither");
    set("AWS_PROFILE", "none");
    open_provider(f, NULL);
    assert_int_equal(get(f), HADB_EAUTH);
    assert_says(f, "no profile none");
}

/* A token belongs to the keys of its own file. */
static void profile__keys_and_token_are_those_of_one_file(void **state)
{
    struct fixture *f = *state;
    write_file(f, "config",
               "[default]\naws_access_key_id = OLD\naws_secret_access_key = OS\n"
               "aws_session_token = OT\nrole_session_name = me\n");
    write_file(f, "creds", "[default]\naws_access_key_id = NEW\naws_secret_access_key = NS\n");
    set("AWS_CONFIG_FILE", "%s/config", f->dir);
    set("AWS_SHARED_CREDENTIALS_FILE", "%s/creds", f->dir);
    assert_int_equal(get(f), 0);
    assert_creds(f, "NEW", "NS", "", "profile");
    write_file(f, "creds", "[default]\naws_access_key_id = NEW\n");
    open_provider(f, NULL);
    assert_int_equal(get(f), HADB_EAUTH);
    assert_says(f, "profile default has neither");
}

static void profile__of_the_url_comes_before_the_environment(void **state)
{
    struct fixture *f = *state;
    write_file(f, "creds", credentials_file);
    set("AWS_SHARED_CREDENTIALS_FILE", "%s/creds", f->dir);
    set("AWS_ACCESS_KEY_ID", "AK");
    set("AWS_SECRET_ACCESS_KEY", "SK");
    assert_int_equal(get(f), 0);
    assert_creds(f, "AK", "SK", "", "environment");
    open_provider(f, "default");
    assert_int_equal(get(f), 0);
    assert_creds(f, "DA", "DS", "DT", "profile");
}

static void web_identity__is_exchanged_at_sts(void **state)
{
    struct fixture *f = *state;
    write_file(f, "token", "the.web+identity/token\n");
    set("AWS_WEB_IDENTITY_TOKEN_FILE", "%s/token", f->dir);
    set("AWS_ENDPOINT_URL_STS", "%s/-/sts", s3_origin());
    assert_int_equal(get(f), HADB_EAUTH);
    assert_says(f, "AWS_ROLE_ARN is not");
    set("AWS_ROLE_ARN", "arn:aws:iam::1:role/x");
    s3_tell("{\"set\": {\"sts\": {\"identity\": \"the.web+identity/token\", "
            "\"role\": \"arn:aws:iam::1:role/x\", \"credentials\": %s}}}",
            json("WEB", 59));
    assert_int_equal(get(f), 0);
    assert_creds(f, "WEB", "S-WEB", "T-WEB", "web identity");
    assert_int_equal(f->creds->expires_unix_ms, T0_MS + 59 * MINUTE_MS);
    write_file(f, "token", "another");
    open_provider(f, NULL);
    assert_int_equal(get(f), HADB_EAUTH);
    assert_says(f, "web identity");
}

static void container__gives_credentials_for_its_token(void **state)
{
    struct fixture *f = *state;
    write_file(f, "token", "Bearer c-token\n");
    set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "%s/-/container", s3_origin());
    set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "%s/token", f->dir);
    s3_tell("{\"set\": {\"container\": {\"token\": \"Bearer c-token\", \"credentials\": %s}}}",
            json("CON", 59));
    assert_int_equal(get(f), 0);
    assert_creds(f, "CON", "S-CON", "T-CON", "container");
    write_file(f, "token", "Bearer wrong");
    open_provider(f, NULL);
    assert_int_equal(get(f), HADB_EAUTH);
    assert_says(f, "403");
}

static void container__token_leaves_only_to_this_host_or_over_tls(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {
        "http://example.com/",        "http://127.0.0.1.example.com/", "http://localhost.example/",
        "http://169.254.170.2.evil/", "http://127.0.0.1@example.com/", "ftp://127.0.0.1/",
    };
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        world.vars_len = 1;
        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "%s", bad[i]);
        open_provider(f, NULL);
        assert_int_equal(get(f), HADB_EAUTH);
        assert_says(f, "must be https or an address of this host");
    }
}

static void instance__metadata_is_asked_with_a_session(void **state)
{
    struct fixture *f = *state;
    world.vars_len = 0;
    set("AWS_EC2_METADATA_SERVICE_ENDPOINT", "%s/-/imds", s3_origin());
    s3_tell("{\"set\": {\"imds\": %s}}", json("IMD", 59));
    assert_int_equal(get(f), 0);
    assert_creds(f, "IMD", "S-IMD", "T-IMD", "instance metadata");
    assert_int_equal(s3_requests("PUT"), 1);
    assert_int_equal(s3_requests("GET"), 2);
    s3_tell("{\"set\": {\"imds\": {\"Code\": \"AssumeRoleUnauthorizedAccess\"}}}");
    open_provider(f, NULL);
    assert_int_equal(get(f), HADB_EAUTH);
    assert_says(f, "holds no credentials");
}

/* --- refreshing ---------------------------------------------------------------------------------- */

static void pass(int minutes)
{
    world.unix_ms += (int64_t)minutes * MINUTE_MS;
    world.boot_ms += (uint64_t)minutes * MINUTE_MS;
}

static void credentials__are_renewed_before_they_expire(void **state)
{
    struct fixture *f = *state;
    use_container(f, "ONE", 20);
    assert_int_equal(get(f), 0);
    use_container(f, "TWO", 50);
    pass(14);
    assert_int_equal(get(f), 0);
    assert_string_equal(f->creds->key_id, "ONE");
    assert_int_equal(s3_requests("GET"), 1);
    pass(2);
    assert_int_equal(get(f), 0);
    assert_string_equal(f->creds->key_id, "TWO");
    assert_int_equal(s3_requests("GET"), 2);
}

/* Our clock is ahead, or the source is late: it has no others, so asking for each request helps nobody. */
static void
credentials__that_seem_expired_when_they_come_are_used_and_the_source_is_spared(void **state)
{
    struct fixture *f = *state;
    use_container(f, "ONE", 20);
    pass(40);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(get(f), 0);
        assert_string_equal(f->creds->key_id, "ONE");
    }
    assert_int_equal(s3_requests("GET"), 1);
    use_container(f, "TWO", 59);
    pass(1);
    assert_int_equal(get(f), 0);
    assert_string_equal(f->creds->key_id, "TWO");
}

static void source__that_fails_leaves_the_old_ones_until_they_expire(void **state)
{
    struct fixture *f = *state;
    use_container(f, "ONE", 20);
    assert_int_equal(get(f), 0);
    s3_tell("{\"fault\": {\"path\": \"container\", \"do\": \"status\", \"status\": 503, \"times\": "
            "100}}");
    pass(16);
    for (int i = 0; i < 5; i++) { /* asked once, then left alone for a while */
        assert_int_equal(get(f), 0);
        assert_string_equal(f->creds->key_id, "ONE");
    }
    assert_int_equal(s3_requests("GET"), 2);
    assert_non_null(strstr(world.log, "expire soon"));
    pass(4);
    assert_int_equal(get(f), HADB_EUNAVAIL);
    assert_true(f->err.retryable);
    s3_tell("{\"reset\": true}");
    use_container(f, "TWO", 50);
    assert_int_equal(get(f), 0);
    assert_string_equal(f->creds->key_id, "TWO");
}

static void refused__credentials_are_asked_for_again(void **state)
{
    struct fixture *f = *state;
    use_container(f, "ONE", 59);
    assert_int_equal(get(f), 0);
    use_container(f, "TWO", 59);
    hadb__s3_provider_reject(f->provider, f->creds);
    assert_int_equal(get(f), 0);
    assert_string_equal(f->creds->key_id, "TWO");
    hadb__s3_provider_reject(f->provider, f->creds);
    assert_int_equal(get(f), 0); /* the same come back */
    long long asked = s3_requests("GET");
    hadb__s3_provider_reject(f->provider, f->creds);
    assert_int_equal(get(f), 0);
    assert_int_equal(s3_requests("GET"), asked); /* and the source is spared for a while */
    pass(1);
    hadb__s3_provider_reject(f->provider, f->creds);
    assert_int_equal(get(f), 0);
    assert_int_equal(s3_requests("GET"), asked + 1);
}

static void get_one(void *arg)
{
    struct fixture *f = arg;
    struct hadb__s3_creds *creds = NULL;
    assert_int_equal(hadb__s3_provider_get(f->provider, NULL, &creds, NULL), 0);
    hadb__s3_creds_unref(creds);
}

static void callers__at_once_ask_the_source_once(void **state)
{
    struct fixture *f = *state;
    struct hadb_thread threads[16] = {0};
    f->env.now_ms = NULL; /* callers wait on the real clock */
    use_container(f, "ONE", 59);
    s3_tell("{\"fault\": {\"path\": \"container\", \"do\": \"drip\", \"ms\": 1}}");
    open_provider(f, NULL);
    for (size_t i = 0; i < HADB_LEN(threads); i++) {
        assert_int_equal(hadb_thread_start(&threads[i], "getter", get_one, f, NULL), 0);
    }
    for (size_t i = 0; i < HADB_LEN(threads); i++) {
        hadb_thread_join(&threads[i]);
    }
    assert_int_equal(s3_requests("GET"), 1);
}

struct slow_getter {
    struct fixture *f;
    int done; /* atomic */
};

static void get_slowly(void *arg)
{
    struct slow_getter *getter = arg;
    get_one(getter->f);
    __atomic_store_n(&getter->done, 1, __ATOMIC_RELEASE);
}

static void callers__use_the_old_ones_while_somebody_asks_for_new(void **state)
{
    struct fixture *f = *state;
    struct slow_getter getter = {.f = f};
    struct hadb_thread thread = {0};
    use_container(f, "ONE", 20);
    assert_int_equal(get(f), 0);
    s3_tell("{\"fault\": {\"path\": \"container\", \"do\": \"stall\"}}");
    pass(16);
    assert_int_equal(hadb_thread_start(&thread, "getter", get_slowly, &getter, NULL), 0);
    uint64_t end = hadb_now_ms(NULL) + 10000;
    while (s3_requests("GET") < 2 && hadb_now_ms(NULL) < end) {
    }
    assert_int_equal(s3_requests("GET"), 2);
    assert_int_equal(get(f), 0);
    assert_string_equal(f->creds->key_id, "ONE");
    assert_int_equal(__atomic_load_n(&getter.done, __ATOMIC_ACQUIRE), 0);
    s3_tell("{\"release\": true}");
    hadb_thread_join(&thread);
}

/* --- the store over them ------------------------------------------------------------------------- */

static void store__goes_on_when_keys_are_changed_in_the_profile_file(void **state)
{
    struct fixture *f = *state;
    HADB_CLEANUP(hadb_storage_close) struct hadb_storage s = {0};
    char path[HADB_PATH_BYTES_MAX];
    write_file(f, "creds",
               "[rotated]\naws_access_key_id=TESTKEYID\naws_secret_access_key=test/secret+key\n");
    assert_int_equal(hadb_path_join(path, f->dir, "creds", NULL), 0);
    assert_int_equal(setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1), 0);
    s3_open("&profile=rotated", NULL, &s);
    assert_int_equal(hadb_storage_create(&s, NULL, "a", hadb_slice_str("x"), NULL, &f->err), 0);
    s3_tell("{\"set\": {\"keys\": {\"NEWKEY\": [\"new-secret\", \"new-token\"], "
            "\"TESTKEYID\": [\"test/secret+key\", \"\"]}, \"expired\": [\"TESTKEYID\"]}}");
    assert_int_equal(hadb_storage_create(&s, NULL, "b", hadb_slice_str("x"), NULL, &f->err),
                     HADB_EAUTH);
    assert_says(f, "ExpiredToken");
    assert_false(f->err.retryable);
    assert_null(strstr(f->err.message, "secret+key"));
    write_file(f, "creds",
               "[rotated]\naws_access_key_id=NEWKEY\naws_secret_access_key=new-secret\n"
               "aws_session_token=new-token\n");
    hadb_storage_close(
        &s); /* the file is looked at again 10 s after it had the same keys: a fresh handle */
    s3_open("&profile=rotated", NULL, &s);
    assert_int_equal(hadb_storage_create(&s, NULL, "b", hadb_slice_str("x"), NULL, &f->err), 0);
    write_file(f, "creds",
               "[rotated]\naws_access_key_id=THIRD\naws_secret_access_key=third-secret\n");
    s3_tell("{\"set\": {\"keys\": {\"THIRD\": [\"third-secret\", \"\"]}, \"expired\": []}}");
    long long before = s3_requests("PUT");
    assert_int_equal(hadb_storage_create(&s, NULL, "c", hadb_slice_str("x"), NULL, &f->err), 0);
    assert_int_equal(s3_requests("PUT"), before + 2); /* refused, read again, done */
    assert_int_equal(unsetenv("AWS_SHARED_CREDENTIALS_FILE"), 0);
}

/* ExpiredToken is a 400, and the answer to a HEAD has no body that says so: a watch of leases sends nothing else. */
static void store__that_sends_heads_alone_notices_that_its_keys_expired(void **state)
{
    struct fixture *f = *state;
    HADB_CLEANUP(hadb_storage_close) struct hadb_storage s = {0};
    struct hadb_object_meta meta = {0};
    char path[HADB_PATH_BYTES_MAX];
    write_file(f, "creds",
               "[default]\naws_access_key_id=TESTKEYID\naws_secret_access_key=test/secret+key\n");
    assert_int_equal(hadb_path_join(path, f->dir, "creds", NULL), 0);
    assert_int_equal(setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1), 0);
    s3_open("&profile=default", NULL, &s);
    assert_int_equal(hadb_storage_create(&s, NULL, "a", hadb_slice_str("x"), NULL, &f->err), 0);
    write_file(f, "creds",
               "[default]\naws_access_key_id=NEWKEY\naws_secret_access_key=new-secret\n");
    s3_tell("{\"set\": {\"keys\": {\"NEWKEY\": [\"new-secret\", \"\"], "
            "\"TESTKEYID\": [\"test/secret+key\", \"\"]}, \"expired\": [\"TESTKEYID\"]}}");
    assert_int_equal(hadb_storage_head(&s, NULL, "a", &meta, &f->err), 0);
    assert_int_equal(meta.size_bytes, 1);
    assert_int_equal(unsetenv("AWS_SHARED_CREDENTIALS_FILE"), 0);
}

/* --- secrets ------------------------------------------------------------------------------------- */

static size_t secrets_freed;

/* The C library's allocator, which looks at what is given back. Blocks of curl and jansson are their own. */
static void *look_and_free(void *arg, void *ptr, size_t size)
{
    (void)arg;
    static const char *const secrets[] = {"S-WIPE", "T-WIPE", "i-WIPE"};
    size_t room = ptr ? malloc_usable_size(ptr) : 0;
    for (size_t i = 0; i < HADB_LEN(secrets) && ptr && size == 0; i++) {
        secrets_freed += memmem(ptr, room, secrets[i], strlen(secrets[i])) != NULL;
    }
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    void *fresh = calloc(1, size); /* never in place: what moves is given back whole */
    if (fresh && ptr) {
        memcpy(fresh, ptr, HADB_MIN(room, size));
        for (size_t i = 0; i < HADB_LEN(secrets); i++) {
            secrets_freed += memmem(ptr, room, secrets[i], strlen(secrets[i])) != NULL;
        }
        free(ptr);
    }
    return fresh;
}

static void secrets__are_wiped_and_never_logged(void **state)
{
    struct fixture *f = *state;
    static const struct hadb_allocator looking = {.realloc = look_and_free};
    struct hadb__s3_creds *creds = NULL;
    use_container(f, "WIPE", 59);
    secrets_freed = 0;
    hadb_allocator_set(&looking);
    open_provider(f, NULL);
    assert_int_equal(hadb__s3_provider_get(f->provider, NULL, &creds, &f->err), 0);
    hadb__s3_creds_unref(creds);
    hadb__s3_provider_close(f->provider);
    f->provider = NULL;
    assert_int_equal(secrets_freed, 0);
    creds = hadb__s3_creds_new("k", "S-WIPE", "T-WIPE", 0, "test");
    assert_non_null(creds);
    struct hadb__http_header headers[] = {{"host", "h"}};
    struct hadb__s3_to_sign request = {.method = "GET",
                                       .path = "/",
                                       .query = "",
                                       .headers = headers,
                                       .headers_len = 1,
                                       .payload_hash = "x",
                                       .date = "20260101T000000Z",
                                       .region = "r",
                                       .service = "s3",
                                       .key_id = creds->key_id,
                                       .secret = creds->secret};
    struct hadb_buf signature = {0};
    assert_int_equal(hadb__s3_sign(&request, &signature), 0);
    hadb_buf_deinit(&signature);
    hadb__s3_creds_unref(creds);
    hadb_allocator_set(NULL);
    assert_int_equal(secrets_freed, 0);
    assert_null(strstr(world.log, "WIPE"));
}

/* --- small readers ------------------------------------------------------------------------------- */

static void time__is_read_in_utc_only(void **state)
{
    (void)state;
    assert_int_equal(hadb__s3_parse_time_ms("2026-01-01T00:00:00Z"), T0_MS);
    assert_int_equal(hadb__s3_parse_time_ms("2026-01-01T00:00:01.250Z"), T0_MS + 1000);
    assert_int_equal(hadb__s3_parse_time_ms("2026-01-01T00:00:00+00:00"), T0_MS);
    static const char *const bad[] = {"",
                                      "soon",
                                      "2026-01-01",
                                      "2026-01-01T00:00:00",
                                      "2026-01-01T00:00:00+02:00",
                                      "1900-01-01T00:00:00Z"};
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        assert_int_equal(hadb__s3_parse_time_ms(bad[i]), -1);
    }
}

static void json__without_credentials_is_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"AccessKeyId\": \"a\"}",
        "{\"AccessKeyId\": \"\", \"SecretAccessKey\": \"s\"}",
        "{\"AccessKeyId\": 1, \"SecretAccessKey\": \"s\"}",
        "{\"AccessKeyId\": \"a\", \"SecretAccessKey\": \"s\", \"Expiration\": \"tomorrow\"}",
        "{\"AccessKeyId\": \"a\", \"SecretAccessKey\": \"s\"} trailing",
    };
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        assert_int_equal(
            hadb__s3_creds_from_json(hadb_slice_str(bad[i]), "test", &f->creds, &f->err),
            HADB_EAUTH);
    }
    const char *good = "{\"AccessKeyId\": \"a\", \"SecretAccessKey\": \"s\", \"More\": [1]}";
    assert_int_equal(hadb__s3_creds_from_json(hadb_slice_str(good), "test", &f->creds, &f->err), 0);
    assert_creds(f, "a", "s", "", "test");
}

#define with_fixture(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        with_fixture(environment__gives_keys_and_token),
        with_fixture(environment__with_half_of_the_pair_is_an_error),
        with_fixture(key__that_is_not_one_printable_word_is_refused),
        with_fixture(nothing__configured_names_what_could_be),
        with_fixture(profile__is_read_from_the_shared_files),
        with_fixture(profile__keys_and_token_are_those_of_one_file),
        with_fixture(profile__of_the_url_comes_before_the_environment),
        with_fixture(web_identity__is_exchanged_at_sts),
        with_fixture(container__gives_credentials_for_its_token),
        with_fixture(container__token_leaves_only_to_this_host_or_over_tls),
        with_fixture(instance__metadata_is_asked_with_a_session),
        with_fixture(credentials__are_renewed_before_they_expire),
        with_fixture(
            credentials__that_seem_expired_when_they_come_are_used_and_the_source_is_spared),
        with_fixture(source__that_fails_leaves_the_old_ones_until_they_expire),
        with_fixture(refused__credentials_are_asked_for_again),
        with_fixture(callers__at_once_ask_the_source_once),
        with_fixture(callers__use_the_old_ones_while_somebody_asks_for_new),
        with_fixture(store__goes_on_when_keys_are_changed_in_the_profile_file),
        with_fixture(store__that_sends_heads_alone_notices_that_its_keys_expired),
        with_fixture(secrets__are_wiped_and_never_logged),
        with_fixture(time__is_read_in_utc_only),
        with_fixture(json__without_credentials_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
