/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside the eight hops: from a database's name to its uuid, the first creation of a database, and the
 * question whether the storage keeps its promises.
 *
 * Thread: the opener's; blocks.
 * Invariants: names/<name> is created once and decides; meta and manifest are there before a name points
 * to them; whoever loses a create reads and follows. A missing manifest is never made again.
 * Failure modes: two nodes that create one name at once leave one unreferenced uuid behind (two small objects).
 */
#include "changeset/keys.h"
#include "node/node_private.h"
#include "storage/probe.h"

#include <stdio.h>

#define TRIES_MAX 5u
#define PROBE_PREFIX "probe"

static struct hadb_call call_of(struct hadb_node *node, const char *name)
{
    struct hadb_call call = hadb_call_within(node->env, HADB_STORE_READ_MS);
    call.database = name;
    return call;
}

/* Reads one of the small objects and checks what it says it is. */
static int read_object(struct hadb_node *node, const char *name, const char *key,
                       enum hadb_entry_kind kind, struct hadb_entry *entry,
                       struct hadb_buf *payload, struct hadb_error *err)
{
    struct hadb_buf stored HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_call call = call_of(node, name);
    int r = hadb_storage_get(&node->storage, &call, key, &stored, NULL, err);
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
static int create_object(struct hadb_node *node, const char *name, const char *key,
                         const struct hadb_id *uuid, enum hadb_entry_kind kind,
                         struct hadb_slice payload, struct hadb_error *err)
{
    struct hadb_buf stored HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_entry entry = {.kind = kind,
                               .db = *uuid,
                               .incarnation = node->self.incarnation,
                               .time_unix_ms = hadb_now_unix_ms(node->env)};
    struct hadb_hash hash;
    hadb_id_random(node->env, &entry.put_id);
    int r = hadb_entry_encode(&entry, payload, 0, &stored, &hash, err);
    bool again = r == 0;
    for (unsigned i = 0; again && i < TRIES_MAX; i++) {
        struct hadb_call call = call_of(node, name);
        r = hadb_storage_create(&node->storage, &call, key, hadb_buf_slice(&stored), NULL, err);
        again = r == HADB_ETIMEDOUT;
    }
    return hadb_wrap(err, r, "storage object %s", key);
}

static int lookup(struct hadb_node *node, const char *name, struct hadb_id *uuid,
                  struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_entry entry;
    struct hadb_name decoded;
    hadb_key_name(name, key);
    int r = read_object(node, name, key, HADB_ENTRY_NAME, &entry, &payload, err);
    if (r == 0) {
        r = hadb_name_decode(hadb_buf_slice(&payload), &decoded, err);
    }
    if (r == 0) {
        *uuid = decoded.db;
    }
    return r;
}

static int make_meta(struct hadb_node *node, const char *name, const char *engine,
                     const struct hadb_id *uuid, struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_meta meta = {.format = HADB_META_FORMAT,
                             .cluster = *uuid,
                             .created_unix_ms = hadb_now_unix_ms(node->env)};
    snprintf(meta.database, sizeof meta.database, "%s", name);
    snprintf(meta.engine, sizeof meta.engine, "%s", engine);
    snprintf(meta.hash, sizeof meta.hash, "%s", HADB_META_HASH);
    hadb_key_meta(uuid, key);
    int r = hadb_meta_encode(&meta, &payload, err);
    return r < 0 ? r
                 : create_object(node, name, key, uuid, HADB_ENTRY_META, hadb_buf_slice(&payload),
                                 err);
}

static int make_manifest(struct hadb_node *node, const char *name, const struct hadb_id *uuid,
                         struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_manifest manifest = {.version = 1};
    hadb_id_random(node->env, &manifest.nonce);
    hadb_key_manifest(uuid, key);
    int r = hadb_manifest_encode(&manifest, &payload, err);
    return r < 0 ? r
                 : create_object(node, name, key, uuid, HADB_ENTRY_MANIFEST,
                                 hadb_buf_slice(&payload), err);
}

static int genesis(struct hadb_node *node, const char *name, const char *engine,
                   struct hadb_error *err)
{
    struct hadb_name fresh;
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    hadb_id_random(node->env, &fresh.db);
    hadb_key_name(name, key);
    int r = make_meta(node, name, engine, &fresh.db, err);
    if (r >= 0) {
        r = make_manifest(node, name, &fresh.db, err);
    }
    if (r >= 0) {
        r = hadb_name_encode(&fresh, &payload, err);
    }
    if (r >= 0) {
        r = create_object(node, name, key, &fresh.db, HADB_ENTRY_NAME, hadb_buf_slice(&payload),
                          err);
    }
    if (r == 0) {
        hadb_log(node->env, HADB_LOG_INFO, "node", name, "database created");
    }
    return r < 0 ? r : 0; /* whoever was first decides */
}

static int check_meta(struct hadb_node *node, const char *name, const char *engine,
                      struct hadb_catalog_entry *out, struct hadb_error *err)
{
    char key[HADB_OBJECT_KEY_BYTES];
    struct hadb_buf payload HADB_CLEANUP(hadb_buf_deinit) = {0};
    struct hadb_entry entry;
    hadb_key_meta(&out->uuid, key);
    int r = read_object(node, name, key, HADB_ENTRY_META, &entry, &payload, err);
    if (r == HADB_ABSENT) {
        return hadb_fail(err, HADB_ECORRUPT, "storage object %s is missing", key);
    }
    if (r == 0) {
        r = hadb_meta_decode(hadb_buf_slice(&payload), &out->meta, err);
    }
    if (r == 0 && !hadb_id_eq(&entry.db, &out->uuid)) {
        r = hadb_fail(err, HADB_ECORRUPT, "%s is of another database", key);
    }
    if (r == 0 && strcmp(out->meta.engine, engine) != 0) {
        r = hadb_fail(err, HADB_EINVAL, "database %s has engine %s: open it as %s=%s", name,
                      out->meta.engine, name, out->meta.engine);
    }
    return r;
}

int hadb__catalog_open(struct hadb_node *node, const char *name, const char *engine,
                       struct hadb_catalog_entry *out, struct hadb_error *err)
{
    int r = HADB_ABSENT;
    for (unsigned i = 0; r == HADB_ABSENT && i < TRIES_MAX; i++) {
        r = lookup(node, name, &out->uuid, err);
        if (r == HADB_ABSENT) {
            int made = node->never_lead ? 0 : genesis(node, name, engine, err);
            if (made < 0) {
                return made;
            }
        }
        if (r == HADB_ABSENT && node->never_lead) {
            return hadb_fail(err, HADB_ENODB,
                             "database %s does not exist, and this node may not create it", name);
        }
    }
    if (r == HADB_ABSENT) {
        return hadb_fail(err, HADB_EIO, "the name of database %s was created but cannot be read",
                         name);
    }
    return r < 0 ? r : check_meta(node, name, engine, out, err);
}

/* ---- conformance (4.13) ---- */

static void report(struct hadb_node *node, const struct hadb_probe_result *result)
{
    for (int i = 0; i < HADB_PROBE_LEN; i++) {
        if (result->checks[i].status == HADB_PROBE_FAILED) {
            hadb_log(node->env, HADB_LOG_ERROR, "probe", NULL, "storage %s fails check %s: %s",
                     node->store_url, hadb_probe_check_name((enum hadb_probe_check)i),
                     result->checks[i].text);
        }
    }
    if (!result->may_lead) {
        hadb_log(
            node->env, HADB_LOG_ERROR, "probe", NULL,
            "this node will follow but never lead: the storage does not keep the promises that "
            "leading rests on");
    }
}

int hadb__catalog_probe(struct hadb_node *node, bool *may_lead, struct hadb_error *err)
{
    struct hadb_probe_result *result = hadb_calloc(1, sizeof *result);
    if (!result) {
        return hadb_fail_nomem(err);
    }
    const char *version = node->storage.ops->scheme;
    struct hadb_call call = call_of(node, NULL);
    int r = hadb_probe_load(&node->storage, &call, PROBE_PREFIX, version, result, err);
    if (r == HADB_ABSENT || r == HADB_ECORRUPT) {
        r = hadb_probe_run(&node->storage, PROBE_PREFIX, NULL, node->env, result, err);
        if (r == 0 && result->may_lead) { /* only what passed is kept */
            struct hadb_call keep = call_of(node, NULL);
            int kept = hadb_probe_store(&node->storage, &keep, PROBE_PREFIX, version, result, err);
            if (kept < 0) {
                hadb_log(node->env, HADB_LOG_WARN, "probe", NULL, "%s", err ? err->message : "");
            }
        }
    }
    if (r == 0) {
        *may_lead = result->may_lead;
        report(node, result);
    }
    hadb_free(result);
    return hadb_wrap(err, r, "storage %s", node->store_url);
}
