/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract of a database's head (its manifest) over any storage: made once, replaced by compare-and-swap on top of
 * what was read, never by guess, never when it is damaged, foreign or newer than this release.
 *
 * What runs is what a node runs: node/catalog.c makes it, the jobs of node/db_snapshot.c read and replace it. The loop
 * around them, which core/ has for a single writer, stands here for many. Argument: a spec as in storage_world.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/thread.h"
#include "changeset/keys.h"
#include "node/node_private.h"
#include "storage/wrapper_private.h"
#include "tests/contract/storage/storage_world.h"

enum { WRITERS = 16, UPDATES = 20, MAKERS = 8, TRIES_MAX = 100000 };

static const char *spec;

/* One process: a node with a storage of its own, and one database on it. */
struct host {
    struct hadb_node *node;
    struct hadb_db *db;
    struct hadb_db_job job;
};

struct fixture {
    struct storage_world *world;
    struct host host;
    struct hadb_id uuid;
};

static void host_open(struct host *host, struct storage_world *world)
{
    *host = (struct host){.node = calloc(1, sizeof *host->node), .db = calloc(1, sizeof *host->db)};
    assert_non_null(host->node);
    assert_non_null(host->db);
    host->node->env = storage_world_env(world);
    hadb_id_random(host->node->env, &host->node->self.incarnation);
    storage_world_open(world, &host->node->storage);
    host->db->node = host->node;
    host->db->snapshots_keep = HADB_MANIFEST_SNAPSHOTS_MAX;
    host->job.db = host->db;
    snprintf(host->db->name, sizeof host->db->name, "test");
}

static void forget(struct host *host)
{
    hadb_manifest_deinit(&host->job.manifest);
    hadb_buf_deinit(&host->job.stored);
    host->job.err = (struct hadb_error){0};
    host->job.answer.ev = (struct hadb_event){.result = HADB_R_UNKNOWN}; /* as node/db_actions.c */
}

static void host_close(struct host *host)
{
    forget(host);
    hadb_storage_close(&host->node->storage);
    free(host->node);
    free(host->db);
}

static int make(struct host *host, struct hadb_error *err)
{
    return hadb__catalog_open(host->node, "test", "kv", NULL, &host->db->uuid, err);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct hadb_error err;
    f->world = storage_world_new(spec);
    host_open(&f->host, f->world);
    if (make(&f->host, &err) != 0) {
        fail_msg("%s", err.message);
    }
    f->uuid = f->host.db->uuid;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    host_close(&f->host);
    storage_world_free(f->world);
    free(f);
    return 0;
}

static enum hadb_result read_head(struct host *host)
{
    forget(host);
    hadb__job_get_manifest(&host->job);
    return host->job.answer.ev.result;
}

/* A reference to a snapshot that nobody else names: what an update adds. */
static struct hadb_obj *snapshot_of(uint64_t slot, const struct hadb_env *env)
{
    struct hadb_obj *obj = hadb_obj_new(HADB_OBJ_SNAPSHOT);
    HADB_ASSERT(obj);
    obj->snapshot.parts = 1;
    obj->snapshot.pos.slot = slot;
    hadb_id_random(env, &obj->snapshot_nonce);
    return obj;
}

static enum hadb_result replace_with(struct host *host, struct hadb_obj *obj,
                                     const struct hadb_id *nonce)
{
    host->job.act = (struct hadb_action){.type = HADB_ACT_CAS_MANIFEST};
    host->job.obj = obj;
    host->job.answer.ev.result = HADB_R_UNKNOWN;
    host->job.act.nonce = *nonce;
    hadb__job_cas(&host->job);
    host->job.obj = NULL;
    return host->job.answer.ev.result;
}

/* Writes what was read plus @obj. */
static enum hadb_result replace_head(struct host *host, struct hadb_obj *obj)
{
    struct hadb_id nonce;
    hadb_id_random(host->node->env, &nonce);
    return replace_with(host, obj, &nonce);
}

static bool names(const struct hadb_manifest *m, const struct hadb_obj *obj)
{
    char name[HADB_MANIFEST_NAME_BYTES_MAX + 1];
    hadb_snapshot_name(obj->snapshot.pos.slot, &obj->snapshot_nonce, name);
    for (size_t i = 0; i < m->snapshots_len; i++) {
        if (strcmp(m->snapshots[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Read, add, replace, until it is there: after a loss on top of the newer one, after no answer by looking. Returns false
 * when something answered what it must not. */
static bool update(struct host *host, uint64_t slot, unsigned *unknowns)
{
    struct hadb_obj *obj = snapshot_of(slot, host->node->env);
    bool done = false, open = false;
    for (unsigned tries = 0; !done && tries < TRIES_MAX; tries++) {
        if (read_head(host) != HADB_R_OK) {
            continue; /* no answer: again */
        }
        if (names(&host->job.manifest, obj)) {
            done = open;
            break; /* else it is there although nobody wrote it */
        }
        enum hadb_result r = replace_head(host, obj);
        done = r == HADB_R_OK;
        open = open || r == HADB_R_UNKNOWN;
        *unknowns += r == HADB_R_UNKNOWN;
        if (r == HADB_R_FAILED) {
            break;
        }
    }
    hadb_obj_unref(obj);
    return done;
}

static void key_of(const struct fixture *f, char key[HADB_OBJECT_KEY_BYTES])
{
    hadb_key_manifest(&f->uuid, key);
}

static void stored(struct fixture *f, struct hadb_buf *bytes, struct hadb_tag *tag)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_error err;
    key_of(f, key);
    if (hadb_storage_get(&f->host.node->storage, NULL, key, bytes, tag, &err) != 0) {
        fail_msg("%s", err.message);
    }
}

/* As somebody else could leave it there. */
static void plant(struct fixture *f, struct hadb_slice bytes)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf old HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_tag tag;
    struct hadb_error err;
    key_of(f, key);
    stored(f, &old, &tag);
    if (hadb_storage_replace(&f->host.node->storage, NULL, key, bytes, &tag, NULL, &err) != 0) {
        fail_msg("%s", err.message);
    }
}

/* ---- made once ---- */

struct maker {
    struct host host;
    struct hadb_thread thread;
    struct hadb_mutex *start;
    int r;
    struct hadb_error err;
};

static void make_it(void *arg)
{
    struct maker *me = arg;
    hadb_mutex_lock(me->start);
    hadb_mutex_unlock(me->start);
    me->r = hadb__catalog_open(me->host.node, "other", "kv", NULL, &me->host.db->uuid, &me->err);
}

static void head__is_made_once_however_many_make_it(void **state)
{
    struct fixture *f = *state;
    static struct maker makers[MAKERS];
    struct hadb_mutex start;
    hadb_mutex_init(&start, 0);
    hadb_mutex_lock(&start);
    for (size_t i = 0; i < MAKERS; i++) {
        makers[i] = (struct maker){.start = &start};
        host_open(&makers[i].host, f->world);
        assert_int_equal(hadb_thread_start(&makers[i].thread, "maker", make_it, &makers[i], NULL),
                         0);
    }
    hadb_mutex_unlock(&start);
    for (size_t i = 0; i < MAKERS; i++) {
        hadb_thread_join(&makers[i].thread);
    }
    for (size_t i = 0; i < MAKERS; i++) {
        if (makers[i].r != 0) {
            fail_msg("%s", makers[i].err.message);
        }
        assert_true(hadb_id_eq(&makers[i].host.db->uuid, &makers[0].host.db->uuid));
        assert_int_equal(read_head(&makers[i].host), HADB_R_OK);
        assert_int_equal(makers[i].host.job.manifest.version, 1);
        assert_int_equal(makers[i].host.job.manifest.snapshots_len, 0);
    }
    for (size_t i = 0; i < MAKERS; i++) {
        host_close(&makers[i].host);
    }
    hadb_mutex_deinit(&start);
}

static void head__that_is_gone_is_not_made_again(void **state)
{
    struct fixture *f = *state;
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_error err;
    key_of(f, key);
    assert_int_equal(read_head(&f->host), HADB_R_OK);
    const char *keys[] = {key};
    assert_int_equal(hadb_storage_delete_many(&f->host.node->storage, NULL, keys, 1, NULL), 0);
    struct hadb_obj *obj = snapshot_of(1, f->host.node->env);
    assert_int_equal(replace_head(&f->host, obj), HADB_R_LOST);
    hadb_obj_unref(obj);
    assert_int_equal(make(&f->host, &err), 0); /* opening it again */
    assert_int_equal(read_head(&f->host), HADB_R_ABSENT);
    assert_non_null(strstr(f->host.job.err.message, key));
    assert_non_null(strstr(f->host.job.err.message, "missing"));
}

/* ---- replaced ---- */

static void head__is_replaced_on_top_of_what_was_read_only(void **state)
{
    struct fixture *f = *state;
    struct host other;
    host_open(&other, f->world);
    other.db->uuid = f->uuid;
    struct hadb_obj *mine = snapshot_of(1, f->host.node->env);
    struct hadb_obj *theirs = snapshot_of(2, f->host.node->env);
    assert_int_equal(read_head(&f->host), HADB_R_OK);
    assert_int_equal(read_head(&other), HADB_R_OK);
    assert_int_equal(replace_head(&other, theirs), HADB_R_OK);
    assert_int_equal(replace_head(&f->host, mine), HADB_R_LOST);
    assert_int_equal(read_head(&f->host), HADB_R_OK);
    assert_int_equal(f->host.job.manifest.version, 2);
    assert_true(names(&f->host.job.manifest, theirs));
    assert_false(names(&f->host.job.manifest, mine));
    assert_int_equal(replace_head(&f->host, mine), HADB_R_OK);
    assert_int_equal(read_head(&other), HADB_R_OK);
    assert_int_equal(other.job.manifest.version, 3);
    assert_true(names(&other.job.manifest, theirs) && names(&other.job.manifest, mine));
    assert_true(hadb_id_eq(&other.job.manifest.nonce, &f->host.job.act.nonce));
    hadb_obj_unref(mine);
    hadb_obj_unref(theirs);
    host_close(&other);
}

struct writer {
    struct host host;
    struct hadb_thread thread;
    struct hadb_mutex *start;
    unsigned id, updates, done, unknowns;
};

static void write_many(void *arg)
{
    struct writer *me = arg;
    hadb_mutex_lock(me->start);
    hadb_mutex_unlock(me->start);
    for (unsigned i = 0; i < me->updates; i++) {
        me->done += update(&me->host, me->id * 1000 + i + 1, &me->unknowns);
    }
}

/* @around: what stands between the writers and their storage; NULL = nothing. Returns the number of unknown outcomes. */
static unsigned race(struct fixture *f, unsigned writers_len, unsigned updates,
                     void (*around)(struct host *host, unsigned id))
{
    static struct writer writers[WRITERS];
    struct hadb_mutex start;
    unsigned unknowns = 0;
    hadb_mutex_init(&start, 0);
    hadb_mutex_lock(&start);
    for (unsigned i = 0; i < writers_len; i++) {
        writers[i] = (struct writer){.start = &start, .id = i, .updates = updates};
        host_open(&writers[i].host, f->world);
        writers[i].host.db->uuid = f->uuid;
        if (around) {
            around(&writers[i].host, i);
        }
        assert_int_equal(
            hadb_thread_start(&writers[i].thread, "writer", write_many, &writers[i], NULL), 0);
    }
    hadb_mutex_unlock(&start);
    for (unsigned i = 0; i < writers_len; i++) {
        hadb_thread_join(&writers[i].thread);
    }
    for (unsigned i = 0; i < writers_len; i++) {
        assert_int_equal(writers[i].done, updates);
        unknowns += writers[i].unknowns;
        host_close(&writers[i].host);
    }
    hadb_mutex_deinit(&start);
    return unknowns;
}

/* Each update is there, once, and moved the version by one. */
static void assert_holds(struct fixture *f, unsigned writers_len, unsigned updates)
{
    assert_int_equal(read_head(&f->host), HADB_R_OK);
    const struct hadb_manifest *m = &f->host.job.manifest;
    assert_int_equal(m->version, 1 + writers_len * updates);
    assert_int_equal(m->snapshots_len, writers_len * updates);
    for (unsigned w = 0; w < writers_len; w++) {
        for (unsigned i = 0; i < updates; i++) {
            unsigned found = 0;
            for (size_t s = 0; s < m->snapshots_len; s++) {
                found += m->snapshots[s].pos.slot == w * 1000 + i + 1;
            }
            assert_int_equal(found, 1);
        }
    }
}

static void racing__writers_lose_cleanly_and_no_update_is_lost(void **state)
{
    struct fixture *f = *state;
    race(f, WRITERS, UPDATES, NULL);
    assert_holds(f, WRITERS, UPDATES);
}

/* ---- outcomes that nobody knows ---- */

/* Loses what is written, or the answer, or delivers what is written after the next read. */
struct lossy {
    struct hadb__wrapper w;
    unsigned turn;
    /* a replace that is still on its way */
    struct hadb_buf late;
    struct hadb_tag late_tag;
    char late_key[HADB_OBJECT_KEY_BYTES];
    bool has_late;
};

static int lossy_replace(struct lossy *l, const struct hadb__request *request,
                         struct hadb_error *err)
{
    unsigned turn = l->turn++ % 4;
    if (turn == 1) { /* never arrives */
        return hadb_fail(err, HADB_ETIMEDOUT, "lost on the way");
    }
    if (turn == 2 && !l->has_late) {
        hadb_buf_clear(&l->late);
        HADB_ASSERT(hadb_buf_append(&l->late, request->body.data, request->body.len) == 0);
        l->late_tag = *request->expected;
        snprintf(l->late_key, sizeof l->late_key, "%s", request->key);
        l->has_late = true;
        return hadb_fail(err, HADB_ETIMEDOUT, "still on its way");
    }
    int r = hadb__request_send(&l->w.inner, request, err);
    return turn == 3 && r == 0 ? hadb_fail(err, HADB_ETIMEDOUT, "no answer") : r;
}

static int lossy_send(void *self, const struct hadb__request *request, struct hadb_error *err)
{
    struct lossy *l = self;
    if (request->op == HADB_STORAGE_OP_REPLACE) {
        return lossy_replace(l, request, err);
    }
    int r = hadb__request_send(&l->w.inner, request, err);
    if (request->op == HADB_STORAGE_OP_GET && l->has_late) {
        l->has_late = false;
        hadb_storage_replace(&l->w.inner, NULL, l->late_key, hadb_buf_slice(&l->late), &l->late_tag,
                             NULL, NULL);
    }
    return r;
}

static void lossy_deinit(void *self)
{
    hadb_buf_deinit(&((struct lossy *)self)->late);
}

static const struct hadb__steps lossy_steps = {.send = lossy_send, .deinit = lossy_deinit};
static const struct hadb_storage_ops lossy_ops = {
    HADB__WRAPPER_METHODS,
    .scheme = "lossy",
};

static void make_lossy(struct host *host, unsigned id)
{
    struct lossy *l = hadb__wrapper_new(sizeof *l, &host->node->storage, host->node->env,
                                        &lossy_ops, &lossy_steps, &host->node->storage);
    assert_non_null(l);
    l->turn = id;
}

static void racing__writers_without_answers_look_and_write_each_update_once(void **state)
{
    struct fixture *f = *state;
    unsigned unknowns = race(f, 4, 12, make_lossy);
    assert_true(unknowns >= 12);
    assert_holds(f, 4, 12);
}

static void late__replace_never_lands_on_top_of_a_newer_head(void **state)
{
    struct fixture *f = *state;
    struct host other;
    host_open(&other, f->world);
    other.db->uuid = f->uuid;
    make_lossy(&other, 2); /* the first replace is delivered after the next read */
    struct hadb_obj *late = snapshot_of(1, f->host.node->env);
    struct hadb_obj *next = snapshot_of(2, f->host.node->env);
    assert_int_equal(read_head(&other), HADB_R_OK);
    assert_int_equal(replace_head(&other, late), HADB_R_UNKNOWN);
    assert_int_equal(read_head(&f->host), HADB_R_OK);
    assert_int_equal(replace_head(&f->host, next), HADB_R_OK);
    assert_int_equal(read_head(&other), HADB_R_OK); /* and now it arrives */
    assert_false(names(&other.job.manifest, late));
    assert_int_equal(read_head(&f->host), HADB_R_OK);
    assert_int_equal(f->host.job.manifest.version, 2);
    assert_true(names(&f->host.job.manifest, next));
    assert_false(names(&f->host.job.manifest, late));
    hadb_obj_unref(late);
    hadb_obj_unref(next);
    host_close(&other);
}

/* ---- the same again is another one ---- */

static void equal__content_written_twice_has_two_tags(void **state)
{
    struct fixture *f = *state;
    struct hadb_buf before HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_buf after HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_tag tag;
    struct hadb_tag now;
    struct hadb_obj *obj = snapshot_of(7, f->host.node->env);
    struct hadb_obj *other = snapshot_of(8, f->host.node->env);
    char key[HADB_OBJECT_KEY_BYTES];
    key_of(f, key);
    assert_int_equal(read_head(&f->host), HADB_R_OK);
    struct hadb_manifest plan;
    assert_int_equal(hadb_manifest_copy(&f->host.job.manifest, &plan, NULL), 0);
    assert_int_equal(replace_head(&f->host, obj), HADB_R_OK);
    stored(f, &before, &tag);
    assert_int_equal(read_head(&f->host), HADB_R_OK);
    struct hadb_id nonce = f->host.job.act.nonce;
    assert_int_equal(replace_head(&f->host, other), HADB_R_OK);
    /* The first update once more, with all that was in it, the nonce as well. */
    assert_int_equal(read_head(&f->host), HADB_R_OK);
    hadb_manifest_deinit(&f->host.job.manifest);
    hadb_buf_deinit(&f->host.job.stored);
    f->host.job.manifest = plan;
    assert_int_equal(replace_with(&f->host, obj, &nonce), HADB_R_OK);
    stored(f, &after, &now);
    assert_false(hadb_slice_eq(hadb_buf_slice(&before), hadb_buf_slice(&after)));
    /* So whoever read the first one, and slept through the others, does not replace the last. */
    assert_int_equal(hadb_storage_replace(&f->host.node->storage, NULL, key,
                                          hadb_buf_slice(&before), &tag, NULL, NULL),
                     HADB_CAS_LOST);
    hadb_obj_unref(obj);
    hadb_obj_unref(other);
}

/* ---- limits, damage, strangers ---- */

static void head__over_the_limit_is_not_written(void **state)
{
    struct fixture *f = *state;
    struct hadb_buf before HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_buf after HADB_CLEANUP(hadb_buf_deinit) = {0};
    assert_int_equal(read_head(&f->host), HADB_R_OK);
    stored(f, &before, NULL);
    struct hadb_manifest *m = &f->host.job.manifest;
    m->sections = hadb_calloc(1, sizeof *m->sections);
    m->sections_len = m->sections_cap = 1;
    m->sections[0].tag = 99;
    assert_int_equal(hadb_buf_reserve(&m->sections[0].bytes, HADB_MANIFEST_BYTES_MAX), 0);
    memset(m->sections[0].bytes.data, 'x', HADB_MANIFEST_BYTES_MAX); /* would compress well */
    m->sections[0].bytes.len = HADB_MANIFEST_BYTES_MAX;
    struct hadb_obj *obj = snapshot_of(1, f->host.node->env);
    assert_int_equal(replace_head(&f->host, obj), HADB_R_FAILED);
    hadb_obj_unref(obj);
    assert_int_equal(f->host.job.err.code, HADB_ETOOBIG);
    assert_non_null(strstr(f->host.job.err.message, "manifest of"));
    stored(f, &after, NULL);
    assert_true(hadb_slice_eq(hadb_buf_slice(&before), hadb_buf_slice(&after)));
}

static void assert_refused(struct fixture *f, const char *word)
{
    char key[HADB_OBJECT_KEY_BYTES];
    key_of(f, key);
    assert_int_equal(read_head(&f->host), HADB_R_CORRUPT);
    assert_non_null(strstr(f->host.job.err.message, key));
    if (!strstr(f->host.job.err.message, word)) {
        fail_msg("no '%s' in: %s", word, f->host.job.err.message);
    }
}

static void damaged__head_is_refused_and_named(void **state)
{
    struct fixture *f = *state;
    struct hadb_buf whole HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_buf bad HADB_CLEANUP(hadb_buf_deinit) = {0};
    stored(f, &whole, NULL);
    size_t at[] = {0, 5, 6, 20, 40, 216, 260, 300, whole.len - 1};
    for (size_t i = 0; i < HADB_LEN(at); i++) {
        hadb_buf_clear(&bad);
        assert_int_equal(hadb_buf_append(&bad, whole.data, whole.len), 0);
        bad.data[at[i]] ^= 0x10;
        plant(f, hadb_buf_slice(&bad));
        assert_refused(f, "");
    }
    size_t len[] = {0, 1, 100, HADB_ENTRY_HEADER_BYTES, whole.len - 1};
    for (size_t i = 0; i < HADB_LEN(len); i++) {
        plant(f, hadb_slice(whole.data, len[i]));
        assert_refused(f, "");
    }
    assert_int_equal(hadb_buf_reserve(&bad, 2 * HADB_MANIFEST_BYTES_MAX), 0);
    memset(bad.data, 'x', 2 * HADB_MANIFEST_BYTES_MAX);
    plant(f, hadb_slice(bad.data, 2 * HADB_MANIFEST_BYTES_MAX));
    assert_refused(f, "");
    plant(f, hadb_buf_slice(&whole));
    assert_int_equal(read_head(&f->host), HADB_R_OK);
}

/* A manifest as another writer would make it. */
static void encode(struct fixture *f, const struct hadb_id *db, enum hadb_entry_kind kind,
                   struct hadb_slice payload, struct hadb_buf *out)
{
    struct hadb_entry entry = {.kind = kind, .db = *db};
    struct hadb_hash hash;
    struct hadb_error err;
    hadb_id_random(f->host.node->env, &entry.put_id);
    hadb_buf_clear(out);
    if (hadb_entry_encode(&entry, payload, 0, out, &hash, &err) != 0) {
        fail_msg("%s", err.message);
    }
}

static void foreign__head_is_refused_and_named(void **state)
{
    struct fixture *f = *state;
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_buf object HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_manifest m = {.version = 5};
    struct hadb_name name = {.db = f->uuid};
    struct hadb_id another;
    hadb_id_random(f->host.node->env, &another);
    assert_int_equal(hadb_manifest_encode(&m, &payload, NULL), 0);
    encode(f, &another, HADB_ENTRY_MANIFEST, hadb_buf_slice(&payload), &object);
    plant(f, hadb_buf_slice(&object));
    assert_refused(f, "not this database's manifest");
    hadb_buf_clear(&payload);
    assert_int_equal(hadb_name_encode(&name, &payload, NULL), 0);
    encode(f, &f->uuid, HADB_ENTRY_NAME, hadb_buf_slice(&payload), &object);
    plant(f, hadb_buf_slice(&object));
    assert_refused(f, "not this database's manifest");
}

static void newer__head_is_refused_and_the_version_is_named(void **state)
{
    struct fixture *f = *state;
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_buf object HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_manifest m = {.version = 5};
    assert_int_equal(hadb_manifest_encode(&m, &payload, NULL), 0);
    payload.data[0] = 2; /* the format of a later release */
    encode(f, &f->uuid, HADB_ENTRY_MANIFEST, hadb_buf_slice(&payload), &object);
    plant(f, hadb_buf_slice(&object));
    assert_refused(f, "version");
    assert_int_equal(f->host.job.err.code, HADB_EVERSION);
    payload.data[0] = 1;
    uint8_t section[9] = {77, 0, 0, 0x80, 1, 0, 0, 0, 'x'}; /* one that must be understood */
    assert_int_equal(hadb_buf_append(&payload, section, sizeof section), 0);
    encode(f, &f->uuid, HADB_ENTRY_MANIFEST, hadb_buf_slice(&payload), &object);
    plant(f, hadb_buf_slice(&object));
    assert_refused(f, "");
    assert_int_equal(f->host.job.err.code, HADB_EVERSION);
    /* One that need not be is kept, byte for byte. */
    payload.data[payload.len - 6] = 0;
    encode(f, &f->uuid, HADB_ENTRY_MANIFEST, hadb_buf_slice(&payload), &object);
    plant(f, hadb_buf_slice(&object));
    unsigned unknowns = 0;
    assert_true(update(&f->host, 1, &unknowns));
    assert_int_equal(read_head(&f->host), HADB_R_OK);
    assert_int_equal(f->host.job.manifest.version, 6);
    assert_int_equal(f->host.job.manifest.sections_len, 1);
    assert_int_equal(f->host.job.manifest.sections[0].tag, 77);
    assert_true(hadb_slice_eq(hadb_buf_slice(&f->host.job.manifest.sections[0].bytes),
                              hadb_slice_str("x")));
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(head__is_made_once_however_many_make_it),
        T(head__that_is_gone_is_not_made_again),
        T(head__is_replaced_on_top_of_what_was_read_only),
        T(racing__writers_lose_cleanly_and_no_update_is_lost),
        T(racing__writers_without_answers_look_and_write_each_update_once),
        T(late__replace_never_lands_on_top_of_a_newer_head),
        T(equal__content_written_twice_has_two_tags),
        T(head__over_the_limit_is_not_written),
        T(damaged__head_is_refused_and_named),
        T(foreign__head_is_refused_and_named),
        T(newer__head_is_refused_and_the_version_is_named),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s SPEC\n", argv[0]);
        return 2;
    }
    spec = argv[1];
    return cmocka_run_group_tests_name(spec, tests, NULL, NULL);
}
