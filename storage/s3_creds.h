/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials for S3: where they come from, and fresh ones before they expire. In this order, the first that
 * is configured: environment, web identity, shared profile file, container, instance metadata. A profile that
 * is named in the URL comes first and alone. Any thread.
 */
#ifndef HADB_STORAGE_S3_CREDS_H
#define HADB_STORAGE_S3_CREDS_H
#include "hadb/env.h"

struct hadb_call;

typedef const char *(*hadb__s3_getvar_fn)(const char *name); /* NULL when absent or empty */

#define HADB_S3_CREDS_BYTES_MAX 16384u /* of an answer with credentials, of a token file */
#define HADB_S3_PROFILE_BYTES_MAX (1u << 20)

/* Shared and constant; wiped when the last user lets go. */
struct hadb__s3_creds {
    char *key_id;
    char *secret;
    char *token;             /* NULL = none */
    int64_t expires_unix_ms; /* 0 = not known */
    const char *source;      /* "environment", ...: static, for messages */
    unsigned refs;           /* atomic: release on unref, acquire before it is wiped */
};
/* Copies the texts; @token may be NULL or "". NULL when out of memory. */
struct hadb__s3_creds *hadb__s3_creds_new(const char *key_id, const char *secret, const char *token,
                                          int64_t expires_unix_ms, const char *source);
struct hadb__s3_creds *hadb__s3_creds_ref(struct hadb__s3_creds *creds);
void hadb__s3_creds_unref(struct hadb__s3_creds *creds); /* NULL is fine */
/* The same texts? */
bool hadb__s3_creds_eq(const struct hadb__s3_creds *a, const struct hadb__s3_creds *b);

struct hadb__s3_provider;
struct hadb__s3_provider_options {
    const struct hadb_env *env; /* outlives the provider: clock, files, log */
    hadb__s3_getvar_fn getvar;
    const char *profile; /* NULL = as the environment says */
    const char *region;  /* for STS */
    const char *ca;      /* may be NULL */
};
/* Reads nothing yet. 0, HADB_EIO, HADB_ENOMEM. */
int hadb__s3_provider_open(const struct hadb__s3_provider_options *options,
                           struct hadb__s3_provider **out, struct hadb_error *err);
void hadb__s3_provider_close(struct hadb__s3_provider *provider); /* NULL is fine */

/*
 * Credentials that are good now; to be let go with unref. Asks the source when there are none or when they
 * expire soon; while the old ones are good, a source that does not answer is only logged.
 * Returns    0
 * Errors     HADB_EAUTH (none found, or refused: what was tried), HADB_EUNAVAIL (the source does not answer),
 *            HADB_ECANCELED, HADB_ENOMEM
 */
int hadb__s3_provider_get(struct hadb__s3_provider *provider, const struct hadb_call *call,
                          struct hadb__s3_creds **out, struct hadb_error *err);
/* The same without asking any source: HADB_EBUSY when that is due. */
int hadb__s3_provider_try(struct hadb__s3_provider *provider, struct hadb__s3_creds **out,
                          struct hadb_error *err);
/* The server refused these: the next get asks the source again, unless others are there already. */
void hadb__s3_provider_reject(struct hadb__s3_provider *provider,
                              const struct hadb__s3_creds *refused);
#endif
