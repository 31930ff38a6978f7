/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the lease store "mem:": records in this process's memory, private to the handle or, with a name,
 * shared by all handles of that name until the last one is closed.
 *
 * Thread: any. One mutex per store guards the records; one condition wakes watchers. The registry of names
 * is the one global here; its mutex comes before a store's.
 * Invariant: a tag is a version number of the store that never repeats.
 * Happy path: find the record by its key, compare, write, wake. Failure modes: HADB_ENOMEM changes
 * nothing; a call whose deadline has passed or that was cancelled does nothing.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/thread.h"
#include "lease/lease_private.h"

#define MEM_NAME_BYTES_MAX 255u
#define MEM_LOOK_MS 10u /* how late a watcher may notice its cancel flag */

struct mem_record {
    struct mem_record *next;
    char *key;
    struct hadb_buf bytes;
    uint64_t version;
};

struct mem_leases {
    struct hadb_mutex mu;
    struct hadb_cond changed;
    struct mem_record *records;        /* mu; one per node: a list is enough */
    uint64_t last_version;             /* mu */
    struct mem_leases *next_named;     /* registry_mu */
    size_t handles;                    /* registry_mu */
    char name[MEM_NAME_BYTES_MAX + 1]; /* const after init; "" = private */
};

struct mem_handle {
    struct mem_leases *leases;
    const struct hadb_env *env;
};

static pthread_mutex_t registry_mu = PTHREAD_MUTEX_INITIALIZER;
static struct mem_leases *registry; /* registry_mu */

static struct mem_record *find(struct mem_leases *s, const char *key)
{
    struct mem_record *record = s->records;
    while (record && strcmp(record->key, key) != 0) {
        record = record->next;
    }
    return record;
}

static void put_tag(struct hadb_tag *tag, uint64_t version)
{
    snprintf(tag->s, sizeof(tag->s), "%" PRIu64, version);
}

static bool tag_is(const struct hadb_tag *tag, const struct mem_record *record)
{
    struct hadb_tag now;
    if (!tag || !record) {
        return !tag && !record;
    }
    put_tag(&now, record->version);
    return strcmp(now.s, tag->s) == 0;
}

static int mem_read(void *self, const struct hadb_call *call, const char *key, struct hadb_buf *out,
                    struct hadb_tag *tag, struct hadb_error *err)
{
    struct mem_handle *h = self;
    struct hadb_buf copy = {0};
    int r = hadb_call_check(h->env, call, err);
    if (r) {
        return r;
    }
    hadb_mutex_lock(&h->leases->mu);
    struct mem_record *record = find(h->leases, key);
    if (!record) {
        r = HADB_ABSENT;
    } else if (hadb_buf_append(&copy, record->bytes.data, record->bytes.len)) {
        r = hadb_fail_nomem(err);
    } else {
        put_tag(tag, record->version);
    }
    hadb_mutex_unlock(&h->leases->mu);
    if (r == 0) {
        hadb_buf_deinit(out);
        *out = copy;
    }
    return r;
}

static struct mem_record *record_new(const char *key)
{
    struct mem_record *record = hadb_calloc(1, sizeof(*record));
    if (record) {
        record->key = hadb_strdup(key);
    }
    if (record && !record->key) {
        hadb_free(record);
        return NULL;
    }
    return record;
}

/* Lock held. Takes *bytes over when it returns 0. */
static int write_locked(struct mem_leases *s, const char *key, const struct hadb_tag *expected,
                        struct hadb_buf *bytes, struct hadb_tag *tag)
{
    struct mem_record *record = find(s, key);
    if (!tag_is(expected, record)) {
        return HADB_CAS_LOST;
    }
    if (!record) {
        record = record_new(key);
        if (!record) {
            return HADB_ENOMEM;
        }
        record->next = s->records;
        s->records = record;
    }
    hadb_buf_deinit(&record->bytes);
    record->bytes = hadb_buf_take(bytes);
    record->version = ++s->last_version;
    put_tag(tag, record->version);
    hadb_cond_broadcast(&s->changed);
    return 0;
}

static int mem_write(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_slice record, const struct hadb_tag *expected,
                     struct hadb_tag *tag, struct hadb_error *err)
{
    struct mem_handle *h = self;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf copy = {0};
    int r = hadb__lease_write_check(h->env, call, err);
    if (r) {
        return r;
    }
    if (hadb_buf_append(&copy, record.data, record.len)) {
        return hadb_fail_nomem(err);
    }
    hadb_mutex_lock(&h->leases->mu);
    r = write_locked(h->leases, key, expected, &copy, tag);
    hadb_mutex_unlock(&h->leases->mu);
    return r == HADB_ENOMEM ? hadb_fail_nomem(err) : r;
}

static int mem_watch(void *self, const struct hadb_call *call, const char *key,
                     const struct hadb_tag *seen, struct hadb_error *err)
{
    struct mem_handle *h = self;
    int r = HADB_END;
    hadb_mutex_lock(&h->leases->mu);
    for (;;) {
        if (!tag_is(seen, find(h->leases, key))) {
            r = 0;
            break;
        }
        if (hadb_call_cancelled(call)) {
            r = hadb_fail(err, HADB_ECANCELED, "watch was cancelled");
            break;
        }
        uint64_t left_ms = hadb_call_left_ms(h->env, call);
        if (left_ms == 0) {
            break;
        }
        hadb_cond_wait_ms(&h->leases->changed, &h->leases->mu,
                          HADB_MIN(left_ms, (uint64_t)MEM_LOOK_MS));
    }
    hadb_mutex_unlock(&h->leases->mu);
    return r;
}

static struct mem_leases *leases_new(const char *name)
{
    struct mem_leases *s = hadb_calloc(1, sizeof(*s));
    if (s) {
        hadb_mutex_init(&s->mu, 0);
        hadb_cond_init(&s->changed);
        s->handles = 1;
        snprintf(s->name, sizeof(s->name), "%s", name);
    }
    return s;
}

static void leases_free(struct mem_leases *s)
{
    struct mem_record *record = s->records;
    while (record) {
        struct mem_record *next = record->next;
        hadb_free(record->key);
        hadb_buf_deinit(&record->bytes);
        hadb_free(record);
        record = next;
    }
    hadb_cond_deinit(&s->changed);
    hadb_mutex_deinit(&s->mu);
    hadb_free(s);
}

/* The store of a name, one handle richer; made when it is the first. NULL when out of memory. */
static struct mem_leases *leases_ref(const char *name)
{
    if (name[0] == '\0') {
        return leases_new(name);
    }
    pthread_mutex_lock(&registry_mu);
    struct mem_leases *s = registry;
    while (s && strcmp(s->name, name) != 0) {
        s = s->next_named;
    }
    if (s) {
        s->handles++;
    } else {
        s = leases_new(name);
        if (s) {
            s->next_named = registry;
            registry = s;
        }
    }
    pthread_mutex_unlock(&registry_mu);
    return s;
}

static void leases_unref(struct mem_leases *s)
{
    pthread_mutex_lock(&registry_mu);
    HADB_ASSERT(s->handles > 0);
    bool last = --s->handles == 0;
    struct mem_leases **link = &registry;
    while (last && *link && *link != s) {
        link = &(*link)->next_named;
    }
    if (last && *link) {
        *link = s->next_named;
    }
    pthread_mutex_unlock(&registry_mu);
    if (last) {
        leases_free(s);
    }
}

static void mem_close(void *self)
{
    struct mem_handle *h = self;
    leases_unref(h->leases);
    hadb_free(h);
}

static const struct hadb_lease_ops mem_ops = {
    .abi = HADB_LEASE_ABI,
    .scheme = "mem",
    .read = mem_read,
    .write_if_match = mem_write,
    .watch = mem_watch,
    .close = mem_close,
};

int hadb__lease_mem_open(const struct hadb_url *url, const struct hadb_env *env,
                         struct hadb_lease *out, struct hadb_error *err)
{
    static const char *const known[] = {NULL};
    int r = hadb_url_params_known(url, known, err);
    if (r) {
        return r;
    }
    if (url->authority[0] != '\0' || strlen(url->path) > MEM_NAME_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "a mem url is mem: or mem:NAME (name up to %u bytes)",
                         MEM_NAME_BYTES_MAX);
    }
    struct mem_handle *h = hadb_calloc(1, sizeof(*h));
    struct mem_leases *leases = h ? leases_ref(url->path) : NULL;
    if (!leases) {
        hadb_free(h);
        return hadb_fail_nomem(err);
    }
    *h = (struct mem_handle){.leases = leases, .env = env};
    *out = (struct hadb_lease){.ops = &mem_ops, .self = h};
    return 0;
}
