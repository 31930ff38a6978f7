/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the conformance probe share. */
#ifndef HADB_STORAGE_PROBE_PRIVATE_H
#define HADB_STORAGE_PROBE_PRIVATE_H
#include "base/thread.h"
#include "base/util.h"
#include "storage/probe.h"

#define PROBE_KEY_BYTES 640u
#define PROBE_BODY_BYTES 64u

struct hadb__probe {
    struct hadb_storage *storage;
    const struct hadb_env *env;
    struct hadb_call call;
    struct hadb_probe_options options; /* no zeros */
    char base[PROBE_KEY_BYTES - 64];   /* "PREFIX/run-RANDOM" */
    struct hadb_probe_result result;
};

/* Checks the prefix and names the run: sets p->base. 0 or HADB_EINVAL. */
int hadb__probe_begin(struct hadb__probe *p, const char *prefix, struct hadb_error *err);
/* "BASE-NAME-I". */
void hadb__probe_key(const struct hadb__probe *p, const char *name, unsigned i,
                     char out[PROBE_KEY_BYTES]);
/* A body of PROBE_BODY_BYTES that no other call makes. */
struct hadb_slice hadb__probe_body(const struct hadb__probe *p, char out[PROBE_BODY_BYTES]);
void hadb__probe_verdict(struct hadb__probe *p, enum hadb_probe_check check,
                         enum hadb_probe_status status, const char *fmt, ...) HADB_PRINTF(4, 5);
/* Create with the outcome made definite (protocol.md 4.5): the same bytes again, then compare. */
int hadb__probe_create(struct hadb__probe *p, const char *key, struct hadb_slice body,
                       struct hadb_error *err);
/* *same: the object is there with these bytes. *tag may be NULL. 0 or a failure. */
int hadb__probe_same(struct hadb__probe *p, const char *key, struct hadb_slice body, bool *same,
                     struct hadb_tag *tag, struct hadb_error *err);
bool hadb__probe_may_lead(const struct hadb_probe_result *result);

/* Checks that need threads (probe_race.c). 0 with verdicts noted, or a failure without. */
int hadb__probe_race(struct hadb__probe *p, struct hadb_error *err);
int hadb__probe_replace_race(struct hadb__probe *p, struct hadb_error *err);
int hadb__probe_read_after(struct hadb__probe *p, struct hadb_error *err);
int hadb__probe_absent_first(struct hadb__probe *p, struct hadb_error *err);
#endif
