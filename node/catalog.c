/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: from a database's name to its uuid, and the first creation of a database.
 *
 * Thread: the opener's; blocks.
 * Invariants: names/<name> is created once and decides; meta and manifest are there before a name points
 * to them; whoever loses a create reads and follows. A missing manifest is never made again.
 * Failure modes: two nodes that create one name at once leave one unreferenced uuid behind (two small objects).
 */
#include "changeset/keys.h"
#include "node/node_private.h"

#include <stdio.h>

#define TRIES_MAX 5u

/* What all steps of one opening share. */
struct catalog {
    struct hadb_node *node;
    const char *name, *engine;
    const struct hadb_cancel *cancel;
};

static struct hadb_call call_of(const struct catalog *c)
{
    struct hadb_call call = hadb_call_within(c->node->env, HADB_STORE_READ_MS);
    call.database = c->name;
    call.cancel = c->cancel;
    return call;
}

/* Reads one of the small objects and checks what it says it is. */
static int read_object(const struct catalog *c, const char *key, enum hadb_entry_kind kind,
                       struct hadb_entry *entry, struct hadb_buf *payload, struct hadb_error *err)
{
    struct hadb_buf stored HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_call call = call_of(c);
    int r = hadb_storage_get(&c->node->storage, &call, key, &stored, NULL, err);
    if (r == 0) {
        r = hadb_entry_decode(hadb_buf_slice(&stored), entry, payload, NULL, err);
        r = r > 0 ? HADB_ECORRUPT : r;
    }
    if (r == 0 && entry->kind != kind) {
        r = hadb_fail(err, HADB_ECORRUPT, "the object is no %s", hadb_entry_kind_name(kind));
    }
    return hadb_wrap(err, r, "storage object %s", key);
}

/* Creates an object; sends the same bytes again while the outcome is unknown. 0 or HADB_EXISTS. */
static int create_object(const struct catalog *c, const char *key, const struct hadb_id *uuid,
                         enum hadb_entry_kind kind, struct hadb_slice payload,
                         struct hadb_error *err)
{
    struct hadb_buf stored HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_entry entry = {.kind = kind,
                               .db = *uuid,
                               .incarnation = c->node->self.incarnation,
                               .time_unix_ms = hadb_now_unix_ms(c->node->env)};
    struct hadb_hash hash;
    hadb_id_random(c->node->env, &entry.put_id);
    int r = hadb_entry_encode(&entry, payload, 0, &stored, &hash, err);
    bool again = r == 0;
    for (unsigned i = 0; again && i < TRIES_MAX; i++) {
        struct hadb_call call = call_of(c);
        r = hadb_storage_create(&c->node->storage, &call, key, hadb_buf_slice(&stored), NULL, err);
        again = r == HADB_ETIMEDOUT;
    }
    return hadb_wrap(err, r, "storage object %s", key);
}

static int lookup(const struct catalog *c, struct hadb_id *uuid, struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_entry entry;
    struct hadb_name decoded;
    hadb_key_name(c->name, key);
    int r = read_object(c, key, HADB_ENTRY_NAME, &entry, &payload, err);
    if (r == 0) {
        r = hadb_name_decode(hadb_buf_slice(&payload), &decoded, err);
    }
    if (r == 0) {
        *uuid = decoded.db;
    }
    return r;
}

static int make_meta(const struct catalog *c, const struct hadb_id *uuid, struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_meta meta = {.format = HADB_META_FORMAT,
                             .cluster = *uuid,
                             .created_unix_ms = hadb_now_unix_ms(c->node->env)};
    snprintf(meta.database, sizeof meta.database, "%s", c->name);
    snprintf(meta.engine, sizeof meta.engine, "%s", c->engine);
    snprintf(meta.hash, sizeof meta.hash, "%s", HADB_META_HASH);
    hadb_key_meta(uuid, key);
    int r = hadb_meta_encode(&meta, &payload, err);
    return r < 0 ? r : create_object(c, key, uuid, HADB_ENTRY_META, hadb_buf_slice(&payload), err);
}

static int make_manifest(const struct catalog *c, const struct hadb_id *uuid,
                         struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_manifest manifest = {.version = 1};
    hadb_id_random(c->node->env, &manifest.nonce);
    hadb_key_manifest(uuid, key);
    int r = hadb_manifest_encode(&manifest, &payload, err);
    return r < 0 ? r
                 : create_object(c, key, uuid, HADB_ENTRY_MANIFEST, hadb_buf_slice(&payload), err);
}

static int genesis(const struct catalog *c, struct hadb_error *err)
{
    struct hadb_name fresh;
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    hadb_id_random(c->node->env, &fresh.db);
    hadb_key_name(c->name, key);
    int r = make_meta(c, &fresh.db, err);
    if (r >= 0) {
        r = make_manifest(c, &fresh.db, err);
    }
    if (r >= 0) {
        r = hadb_name_encode(&fresh, &payload, err);
    }
    if (r >= 0) {
        r = create_object(c, key, &fresh.db, HADB_ENTRY_NAME, hadb_buf_slice(&payload), err);
    }
    if (r == 0) {
        hadb_log(c->node->env, HADB_LOG_INFO, "node", c->name, "database created");
    }
    return r < 0 ? r : 0; /* whoever was first decides */
}

static int check_meta(const struct catalog *c, const struct hadb_id *uuid, struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_entry entry;
    struct hadb_meta meta;
    hadb_key_meta(uuid, key);
    int r = read_object(c, key, HADB_ENTRY_META, &entry, &payload, err);
    if (r == HADB_ABSENT) {
        return hadb_fail(err, HADB_ECORRUPT, "storage object %s is missing", key);
    }
    if (r == 0) {
        r = hadb_wrap(err, hadb_meta_decode(hadb_buf_slice(&payload), &meta, err),
                      "storage object %s", key);
    }
    if (r == 0 && !hadb_id_eq(&entry.db, uuid)) {
        r = hadb_fail(err, HADB_ECORRUPT, "storage object %s is of another database", key);
    }
    if (r == 0 && strcmp(meta.engine, c->engine) != 0) {
        r = hadb_fail(err, HADB_EINVAL, "database %s has engine %s: open it as %s=%s", c->name,
                      meta.engine, c->name, meta.engine);
    }
    return r;
}

/* A copy in the data folder says which database the name has to lead to: a store that knows another, or none, is
 * the wrong one, and must not be taken for a new cluster. */
static int check_known(const struct catalog *c, int r, const struct hadb_id *uuid,
                       struct hadb_error *err)
{
    char id[HADB_ID_TEXT_BYTES];
    const struct hadb_folder_db *known =
        hadb_folder_known_find(&c->node->known, c->name, c->engine);
    if (r < 0 || !known || (r == 0 && hadb_id_eq(&known->uuid, uuid))) {
        return r;
    }
    hadb_id_format(&known->uuid, id);
    return hadb_fail(err, HADB_EINVAL,
                     "storage %s has %s database %s, this node's folder has db/%s: check the "
                     "store's address, or move that folder away",
                     c->node->store_url, r == 0 ? "another" : "no", c->name, id);
}

int hadb__catalog_open(struct hadb_node *node, const char *name, const char *engine,
                       const struct hadb_cancel *cancel, struct hadb_id *uuid,
                       struct hadb_error *err)
{
    struct catalog c = {.node = node, .name = name, .engine = engine, .cancel = cancel};
    int r = HADB_ABSENT;
    for (unsigned i = 0; r == HADB_ABSENT && i < TRIES_MAX; i++) {
        r = check_known(&c, lookup(&c, uuid, err), uuid, err);
        if (r == HADB_ABSENT && node->never_lead) {
            return hadb_fail(err, HADB_ENODB,
                             "database %s does not exist, and this node may not create it", name);
        }
        int made = r == HADB_ABSENT ? genesis(&c, err) : 0;
        if (made < 0) {
            return made;
        }
    }
    if (r == HADB_ABSENT) {
        return hadb_fail(err, HADB_EIO, "the name of database %s was created but cannot be read",
                         name);
    }
    return r < 0 ? r : check_meta(&c, uuid, err);
}
