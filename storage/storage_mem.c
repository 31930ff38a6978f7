/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the backend "mem:": objects in this process's memory, private to the handle or, with a
 * name, shared by all handles of that name until the last one is closed.
 *
 * Thread: any. One mutex per store guards the index and is never held while bytes are copied out:
 * bodies are immutable and reference-counted. The registry of names is the one global here; its mutex
 * comes before a store's.
 * Invariants: index (a skip list) sorted by key; a tag is a version number of the store that never repeats.
 * Happy path: wait for the injected latency, look the key up, act, count the request.
 * Failure modes: HADB_ENOMEM changes nothing; a deadline or cancel during the latency ends the call
 * before it acts.
 *
 * Atomics: only the reference count of a body (release on drop, acquire before free).
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "storage/counters.h"
#include "storage/storage_private.h"

#define MEM_HEIGHT_MAX 20
#define MEM_NAME_BYTES_MAX 255u
#define MEM_LATENCY_MS_MAX 60000u

struct mem_body {
    uint32_t refs; /* atomic */
    size_t len;
    uint8_t data[];
};

struct mem_object {
    char *key;
    struct mem_body *body;
    uint64_t version;
    unsigned height;
    struct mem_object *next[];
};

struct mem_store {
    pthread_mutex_t mu;
    struct mem_object *heads[MEM_HEIGHT_MAX]; /* mu */
    uint64_t last_version;                    /* mu */
    uint64_t dice;                            /* mu */
    struct hadb_storage_counters counters;    /* atomic */
    struct mem_store *next_named;             /* registry_mu */
    size_t handles;                           /* registry_mu */
    char name[MEM_NAME_BYTES_MAX + 1];        /* const after init; "" = private */
};

struct mem_handle {
    struct mem_store *store;
    const struct hadb_env *env;
    uint64_t latency_ms;
};

static pthread_mutex_t registry_mu = PTHREAD_MUTEX_INITIALIZER;
static struct mem_store *registry; /* registry_mu */

static struct mem_body *body_new(struct hadb_slice bytes)
{
    struct mem_body *body = hadb_malloc(sizeof(*body) + bytes.len);
    if (body) {
        body->refs = 1;
        body->len = bytes.len;
        if (bytes.len > 0) {
            memcpy(body->data, bytes.data, bytes.len);
        }
    }
    return body;
}

static void body_unref(struct mem_body *body)
{
    if (body && __atomic_sub_fetch(&body->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        hadb_free(body);
    }
}

static void object_free(struct mem_object *object)
{
    hadb_free(object->key);
    body_unref(object->body);
    hadb_free(object);
}

/*
 * The first object whose key is >= @key (or > @key with @after), or NULL. links[i] is the pointer of
 * level i that leads to it, for inserting and removing.
 */
static struct mem_object *seek(struct mem_store *s, const char *key, bool after,
                               struct mem_object **links[MEM_HEIGHT_MAX])
{
    struct mem_object **level = s->heads;
    for (int i = MEM_HEIGHT_MAX - 1; i >= 0; i--) {
        for (;;) {
            struct mem_object *next = level[i];
            int order = next ? strcmp(next->key, key) : 1;
            if (order > 0 || (order == 0 && !after)) {
                break;
            }
            level = next->next;
        }
        if (links) {
            links[i] = &level[i];
        }
    }
    return level[0];
}

static struct mem_object *find(struct mem_store *s, const char *key)
{
    struct mem_object *object = seek(s, key, false, NULL);
    return object && strcmp(object->key, key) == 0 ? object : NULL;
}

static unsigned roll_height(struct mem_store *s)
{
    s->dice ^= s->dice << 13; /* xorshift64: balance only, nothing secret */
    s->dice ^= s->dice >> 7;
    s->dice ^= s->dice << 17;
    unsigned height = 1 + (unsigned)__builtin_ctzll(s->dice | 1ull << 62) / 2;
    return HADB_MIN(height, (unsigned)MEM_HEIGHT_MAX);
}

static struct mem_object *object_new(unsigned height, const char *key)
{
    struct mem_object *object = hadb_calloc(1, sizeof(*object) + height * sizeof(object->next[0]));
    if (!object) {
        return NULL;
    }
    object->height = height;
    object->key = hadb_strdup(key);
    if (!object->key) {
        hadb_free(object);
        return NULL;
    }
    return object;
}

static void put_tag(struct hadb_tag *tag, uint64_t version)
{
    if (tag) {
        snprintf(tag->s, sizeof(tag->s), "%" PRIu64, version);
    }
}

/* The injected latency, then the last look at deadline and cancel before the call acts. */
static int mem_enter(struct mem_handle *h, const struct hadb_call *call, bool writes,
                     struct hadb_error *err)
{
    int r = writes ? hadb__write_check(h->env, call, err) : hadb_call_check(h->env, call, err);
    if (r || h->latency_ms == 0) {
        return r;
    }
    hadb_sleep_ms(HADB_MIN(h->latency_ms, hadb_call_left_ms(h->env, call)), call);
    return writes ? hadb__write_check(h->env, call, err) : hadb_call_check(h->env, call, err);
}

static int mem_count(struct mem_handle *h, enum hadb_storage_op op, int r, uint64_t bytes)
{
    hadb_storage_counters_add(&h->store->counters, op, r, bytes, 0);
    return r;
}

/* Takes a reference to the body of @key: 0 or HADB_ABSENT. */
static int borrow(struct mem_store *s, const char *key, struct mem_body **body, uint64_t *version)
{
    pthread_mutex_lock(&s->mu);
    struct mem_object *object = find(s, key);
    if (object) {
        *body = object->body;
        *version = object->version;
        __atomic_add_fetch(&object->body->refs, 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&s->mu);
    return object ? 0 : HADB_ABSENT;
}

static int read_part(struct mem_handle *h, const struct hadb_call *call, const char *key,
                     uint64_t offset, size_t len, struct hadb_buf *out, struct hadb_tag *tag,
                     struct hadb_error *err)
{
    struct mem_body *body = NULL;
    uint64_t version = 0;
    int r = mem_enter(h, call, false, err);
    if (r == 0) {
        r = borrow(h->store, key, &body, &version);
    }
    if (r) {
        return r;
    }
    size_t from = offset < body->len ? (size_t)offset : body->len;
    hadb_buf_clear(out);
    r = hadb_buf_append(out, body->data + from, HADB_MIN(len, body->len - from));
    body_unref(body);
    if (r) {
        return hadb_fail_nomem(err);
    }
    put_tag(tag, version);
    return 0;
}

static int mem_get(void *self, const struct hadb_call *call, const char *key, struct hadb_buf *out,
                   struct hadb_tag *tag, struct hadb_error *err)
{
    int r = read_part(self, call, key, 0, HADB_OBJECT_BYTES_MAX, out, tag, err);
    return mem_count(self, HADB_STORAGE_OP_GET, r, r ? 0 : out->len);
}

static int mem_get_range(void *self, const struct hadb_call *call, const char *key, uint64_t offset,
                         size_t len, struct hadb_buf *out, struct hadb_error *err)
{
    int r = read_part(self, call, key, offset, len, out, NULL, err);
    return mem_count(self, HADB_STORAGE_OP_GET_RANGE, r, r ? 0 : out->len);
}

static int mem_head(void *self, const struct hadb_call *call, const char *key,
                    struct hadb_object_meta *out, struct hadb_error *err)
{
    struct mem_handle *h = self;
    struct mem_body *body = NULL;
    uint64_t version = 0;
    int r = mem_enter(h, call, false, err);
    if (r == 0) {
        r = borrow(h->store, key, &body, &version);
    }
    if (r == 0) {
        out->size_bytes = body->len;
        put_tag(&out->tag, version);
        body_unref(body);
    }
    return mem_count(h, HADB_STORAGE_OP_HEAD, r, 0);
}

/* Puts @fresh where the key belongs, unless the key is taken. Lock held. */
static int insert(struct mem_store *s, struct mem_object *fresh)
{
    struct mem_object **links[MEM_HEIGHT_MAX];
    struct mem_object *there = seek(s, fresh->key, false, links);
    if (there && strcmp(there->key, fresh->key) == 0) {
        return HADB_EXISTS;
    }
    for (unsigned i = 0; i < fresh->height; i++) {
        fresh->next[i] = *links[i];
        *links[i] = fresh;
    }
    fresh->version = ++s->last_version;
    return 0;
}

static int create_object(struct mem_store *s, const char *key, struct hadb_slice bytes,
                         struct hadb_tag *tag, struct hadb_error *err)
{
    pthread_mutex_lock(&s->mu);
    unsigned height = roll_height(s);
    pthread_mutex_unlock(&s->mu);
    struct mem_object *fresh = object_new(height, key);
    if (!fresh) {
        return hadb_fail_nomem(err);
    }
    fresh->body = body_new(bytes);
    if (!fresh->body) {
        object_free(fresh);
        return hadb_fail_nomem(err);
    }
    pthread_mutex_lock(&s->mu);
    int r = insert(s, fresh);
    uint64_t version = fresh->version;
    pthread_mutex_unlock(&s->mu);
    if (r) {
        object_free(fresh);
        return r;
    }
    put_tag(tag, version);
    return 0;
}

static int mem_create(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err)
{
    struct mem_handle *h = self;
    int r = mem_enter(h, call, true, err);
    if (r == 0) {
        r = create_object(h->store, key, body, tag, err);
    }
    return mem_count(h, HADB_STORAGE_OP_CREATE, r, body.len);
}

static int replace_object(struct mem_store *s, const char *key, struct hadb_slice bytes,
                          const struct hadb_tag *expected, struct hadb_tag *tag,
                          struct hadb_error *err)
{
    struct mem_body *fresh = body_new(bytes);
    if (!fresh) {
        return hadb_fail_nomem(err);
    }
    struct hadb_tag now = {0};
    pthread_mutex_lock(&s->mu);
    struct mem_object *object = find(s, key);
    put_tag(&now, object ? object->version : 0);
    bool won = object && strcmp(now.s, expected->s) == 0;
    struct mem_body *drop = fresh;
    if (won) {
        drop = object->body;
        object->body = fresh;
        object->version = ++s->last_version;
        put_tag(&now, object->version);
    }
    pthread_mutex_unlock(&s->mu);
    body_unref(drop);
    if (won && tag) {
        *tag = now;
    }
    return won ? 0 : HADB_CAS_LOST;
}

static int mem_replace(void *self, const struct hadb_call *call, const char *key,
                       struct hadb_slice body, const struct hadb_tag *expected,
                       struct hadb_tag *tag, struct hadb_error *err)
{
    struct mem_handle *h = self;
    int r = mem_enter(h, call, true, err);
    if (r == 0) {
        r = replace_object(h->store, key, body, expected, tag, err);
    }
    return mem_count(h, HADB_STORAGE_OP_REPLACE, r, body.len);
}

static int list_objects(struct mem_store *s, const char *prefix, const char *after, size_t max,
                        struct hadb_object_list *out, struct hadb_error *err)
{
    size_t prefix_len = strlen(prefix);
    int r = 0;
    pthread_mutex_lock(&s->mu);
    bool resume = strcmp(after, prefix) >= 0 && after[0] != '\0';
    struct mem_object *object = seek(s, resume ? after : prefix, resume, NULL);
    for (; object && r == 0; object = object->next[0]) {
        if (strncmp(object->key, prefix, prefix_len) != 0) {
            break;
        }
        if (out->len == max) {
            out->truncated = true;
            break;
        }
        r = hadb__object_list_add(out, hadb_slice_str(object->key), object->body->len, err);
    }
    pthread_mutex_unlock(&s->mu);
    return r;
}

static int mem_list(void *self, const struct hadb_call *call, const char *prefix, const char *after,
                    size_t max, struct hadb_object_list *out, struct hadb_error *err)
{
    struct mem_handle *h = self;
    int r = mem_enter(h, call, false, err);
    if (r == 0) {
        r = list_objects(h->store, prefix, after, max, out, err);
    }
    return mem_count(h, HADB_STORAGE_OP_LIST, r, 0);
}

static void delete_object(struct mem_store *s, const char *key)
{
    struct mem_object **links[MEM_HEIGHT_MAX];
    pthread_mutex_lock(&s->mu);
    struct mem_object *object = seek(s, key, false, links);
    bool hit = object && strcmp(object->key, key) == 0;
    for (unsigned i = 0; hit && i < object->height; i++) {
        HADB_ASSERT(*links[i] == object);
        *links[i] = object->next[i];
    }
    pthread_mutex_unlock(&s->mu);
    if (hit) {
        object_free(object);
    }
}

static int mem_delete_many(void *self, const struct hadb_call *call, const char *const *keys,
                           size_t len, struct hadb_error *err)
{
    struct mem_handle *h = self;
    int r = mem_enter(h, call, true, err);
    for (size_t i = 0; i < len && r == 0; i++) {
        delete_object(h->store, keys[i]);
    }
    return mem_count(h, HADB_STORAGE_OP_DELETE_MANY, r, 0);
}

static uint32_t mem_caps(void *self)
{
    (void)self;
    return HADB_STORAGE_CAP_REPLACE;
}

static void store_free(struct mem_store *s)
{
    struct mem_object *object = s->heads[0];
    while (object) {
        struct mem_object *next = object->next[0];
        object_free(object);
        object = next;
    }
    pthread_mutex_destroy(&s->mu);
    hadb_free(s);
}

static struct mem_store *store_new(const char *name)
{
    struct mem_store *s = hadb_calloc(1, sizeof(*s));
    if (!s) {
        return NULL;
    }
    HADB_ASSERT(pthread_mutex_init(&s->mu, NULL) == 0);
    s->dice = 0x9e3779b97f4a7c15ull;
    s->handles = 1;
    snprintf(s->name, sizeof(s->name), "%s", name);
    return s;
}

/* The store of a name, one handle richer; made when it is the first. NULL when out of memory. */
static struct mem_store *store_ref(const char *name)
{
    if (name[0] == '\0') {
        return store_new(name);
    }
    pthread_mutex_lock(&registry_mu);
    struct mem_store *s = registry;
    while (s && strcmp(s->name, name) != 0) {
        s = s->next_named;
    }
    if (s) {
        s->handles++;
    } else {
        s = store_new(name);
        if (s) {
            s->next_named = registry;
            registry = s;
        }
    }
    pthread_mutex_unlock(&registry_mu);
    return s;
}

static void store_unref(struct mem_store *s)
{
    pthread_mutex_lock(&registry_mu);
    HADB_ASSERT(s->handles > 0);
    bool last = --s->handles == 0;
    struct mem_store **link = &registry;
    while (last && *link && *link != s) {
        link = &(*link)->next_named;
    }
    if (last && *link) {
        *link = s->next_named;
    }
    pthread_mutex_unlock(&registry_mu);
    if (last) {
        store_free(s);
    }
}

static void mem_close(void *self)
{
    struct mem_handle *h = self;
    store_unref(h->store);
    hadb_free(h);
}

static const struct hadb_storage_ops mem_ops = {
    .abi = HADB_STORAGE_ABI,
    .scheme = "mem",
    .get = mem_get,
    .get_range = mem_get_range,
    .head = mem_head,
    .create = mem_create,
    .replace = mem_replace,
    .list = mem_list,
    .delete_many = mem_delete_many,
    .caps = mem_caps,
    .close = mem_close,
};

int hadb_storage_mem_counters(const struct hadb_storage *storage, struct hadb_storage_counters *out,
                              struct hadb_error *err)
{
    if (storage->ops != &mem_ops) {
        return hadb_fail(err, HADB_ENOTSUP, "only a mem store counts what reaches it");
    }
    hadb_storage_counters_read(&((struct mem_handle *)storage->self)->store->counters, out);
    return 0;
}

int hadb__storage_mem_open(const struct hadb_url *url, const struct hadb_env *env,
                           struct hadb_storage *out, struct hadb_error *err)
{
    static const char *const known[] = {"latency_ms", NULL};
    uint64_t latency_ms = 0;
    int r = hadb_url_params_known(url, known, err);
    if (r == 0) {
        r = hadb_url_param_u64(url, "latency_ms", 0, MEM_LATENCY_MS_MAX, 0, &latency_ms, err);
    }
    if (r) {
        return r;
    }
    if (url->authority[0] != '\0' || strlen(url->path) > MEM_NAME_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "a mem url is mem: or mem:NAME (name up to %u bytes)",
                         MEM_NAME_BYTES_MAX);
    }
    struct mem_handle *h = hadb_calloc(1, sizeof(*h));
    struct mem_store *store = h ? store_ref(url->path) : NULL;
    if (!store) {
        hadb_free(h);
        return hadb_fail_nomem(err);
    }
    *h = (struct mem_handle){.store = store, .env = env, .latency_ms = latency_ms};
    *out = (struct hadb_storage){.ops = &mem_ops, .self = h};
    return 0;
}
