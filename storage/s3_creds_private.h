/* SPDX-License-Identifier: Apache-2.0 */
/* The sources behind s3_creds.c (s3_creds_source.c, s3_profile.c). Any thread, one caller at a time. */
#ifndef HADB_STORAGE_S3_CREDS_PRIVATE_H
#define HADB_STORAGE_S3_CREDS_PRIVATE_H
#include "base/http.h"
#include "storage/s3_creds.h"

struct hadb__s3_sources {
    const struct hadb_env *env;
    hadb__s3_getvar_fn getvar;
    char *profile; /* NULL = as the environment says */
    char *region;
    char *ca; /* may be NULL */
    struct hadb__http *http;
};

/*
 * Asks the sources in their order: 0 with credentials of one reference, or a failure that says what to do.
 * A source that is configured and fails ends the search: a fall-back to others would hide the mistake.
 */
int hadb__s3_sources_ask(const struct hadb__s3_sources *sources, const struct hadb_call *call,
                         struct hadb__s3_creds **out, struct hadb_error *err);

/* What one section of a shared profile file says; slices of the text. */
struct hadb__s3_profile {
    bool found;
    struct hadb_slice key_id, secret, token, role_arn, token_file, session_name;
};
/* @is_config: sections are named [profile NAME], but [default]. Adds to what @out holds already. */
void hadb__s3_profile_read(struct hadb_slice text, const char *name, bool is_config,
                           struct hadb__s3_profile *out);

/* {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}: 0 with one reference; HADB_EAUTH, HADB_ENOMEM. */
int hadb__s3_creds_from_json(struct hadb_slice json, const char *source,
                             struct hadb__s3_creds **out, struct hadb_error *err);
/* 2024-01-31T12:00:00Z, with or without a fraction; -1 when it is not one. */
int64_t hadb__s3_parse_time_ms(const char *text);
#endif
