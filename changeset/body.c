/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 4 of 8: payloads of seal, meta and name, and the items of a snapshot (byte tables in body.h).
 *
 * Thread: any; pure.
 * Invariants: what encodes decodes to the same, and what decodes encodes to the same bytes.
 * Happy path: check, reserve once, write; or check every length, then copy out.
 * Failure modes: bad fields (HADB_EINVAL), limits, memory; foreign bytes (HADB_ECORRUPT, HADB_EVERSION).
 */
#include "changeset/body.h"

#include <assert.h>
#include <inttypes.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/id.h"

#define BODY_VERSION 1u

static_assert(HADB_SEAL_HEADER_BYTES == 4 + 2 * sizeof(struct hadb_id), "seal");
static_assert(HADB_META_HEADER_BYTES ==
                  16 + sizeof(struct hadb_id) + 8 + sizeof(struct hadb_id) + 8,
              "meta");
static_assert(HADB_NAME_BODY_BYTES == 8 + sizeof(struct hadb_id), "name");
static_assert(HADB_ITEM_HEADER_BYTES == 4 + 4 + 8 + 8, "item");
static_assert(HADB_ADDRESS_BYTES_MAX <= UINT8_MAX && HADB_NAME_BYTES_MAX <= UINT8_MAX,
              "lengths are one byte");

static int check_version(struct hadb_slice payload, size_t header_len, const char *what,
                         struct hadb_error *err)
{
    if (payload.len == 0) {
        return hadb_fail(err, HADB_ECORRUPT, "%s is empty", what);
    }
    unsigned version = *(const uint8_t *)payload.data;
    if (version != BODY_VERSION) {
        return hadb_fail(err, HADB_EVERSION, "%s has version %u, this release reads version %u",
                         what, version, BODY_VERSION);
    }
    if (payload.len < header_len) {
        return hadb_fail(err, HADB_ECORRUPT, "%s is cut off after %zu bytes", what, payload.len);
    }
    return 0;
}

/* Copies @len bytes to a NUL-terminated name; false unless it is a valid one. */
static bool load_name(const uint8_t *at, size_t len, char out[HADB_NAME_BYTES_MAX + 1])
{
    if (len > HADB_NAME_BYTES_MAX) {
        return false;
    }
    memcpy(out, at, len);
    out[len] = '\0';
    return strlen(out) == len && hadb_name_valid(out);
}

/* ---- seal ---- */

static const char *const reasons[] = {
    [HADB_SEAL_REASON_GENESIS] = "genesis",  [HADB_SEAL_REASON_FAILOVER] = "failover",
    [HADB_SEAL_REASON_HANDOFF] = "hand-off", [HADB_SEAL_REASON_RESIGN] = "resign",
    [HADB_SEAL_REASON_RETIRED] = "retired",
};

const char *hadb_seal_reason_name(unsigned reason)
{
    return reason < HADB_LEN(reasons) ? reasons[reason] : NULL;
}

/* A short text about what is wrong with @seal; NULL when it is fine. Strings are NUL-terminated. */
static const char *seal_fault(const struct hadb_seal *seal)
{
    if (!hadb_address_valid(seal->address)) {
        return "an address that is not printable";
    }
    if (seal->node[0] != '\0') {
        return hadb_name_valid(seal->node) ? NULL : "a node name that is not valid";
    }
    if (seal->reason != HADB_SEAL_REASON_RESIGN && seal->reason != HADB_SEAL_REASON_RETIRED) {
        return "nobody named as the next owner";
    }
    if (!hadb_id_is_zero(&seal->node_id) || !hadb_id_is_zero(&seal->incarnation) ||
        seal->address[0] != '\0') {
        return "an owner without a name";
    }
    return NULL;
}

int hadb_seal_encode(const struct hadb_seal *seal, struct hadb_buf *out, struct hadb_error *err)
{
    size_t node_len = strnlen(seal->node, sizeof(seal->node));
    size_t address_len = strnlen(seal->address, sizeof(seal->address));
    if (node_len > HADB_NAME_BYTES_MAX || address_len > HADB_ADDRESS_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "seal has a text that does not end");
    }
    if (hadb_seal_reason_name(seal->reason) == NULL) {
        return hadb_fail(err, HADB_EINVAL, "seal has the unknown reason %u", seal->reason);
    }
    const char *fault = seal_fault(seal);
    if (fault != NULL) {
        return hadb_fail(err, HADB_EINVAL, "seal has %s", fault);
    }
    size_t len = HADB_SEAL_HEADER_BYTES + node_len + address_len;
    if (hadb_buf_reserve(out, len) != 0) {
        return hadb_fail_nomem(err);
    }
    uint8_t *at = out->data + out->len;
    at[0] = BODY_VERSION;
    at[1] = (uint8_t)seal->reason;
    at[2] = (uint8_t)node_len;
    at[3] = (uint8_t)address_len;
    memcpy(at + 4, seal->node_id.b, sizeof(seal->node_id.b));
    memcpy(at + 20, seal->incarnation.b, sizeof(seal->incarnation.b));
    memcpy(at + HADB_SEAL_HEADER_BYTES, seal->node, node_len);
    memcpy(at + HADB_SEAL_HEADER_BYTES + node_len, seal->address, address_len);
    out->len += len;
    return 0;
}

int hadb_seal_decode(struct hadb_slice payload, struct hadb_seal *out, struct hadb_error *err)
{
    int r = check_version(payload, HADB_SEAL_HEADER_BYTES, "seal", err);
    if (r != 0) {
        return r;
    }
    const uint8_t *at = payload.data;
    struct hadb_seal seal = {.reason = at[1]};
    size_t node_len = at[2];
    size_t address_len = at[3];
    if (payload.len != HADB_SEAL_HEADER_BYTES + node_len + address_len ||
        node_len > HADB_NAME_BYTES_MAX) {
        return hadb_fail(err, HADB_ECORRUPT, "seal of %zu bytes with texts of %zu and %zu",
                         payload.len, node_len, address_len);
    }
    if (hadb_seal_reason_name(seal.reason) == NULL) {
        return hadb_fail(err, HADB_EVERSION, "seal has the unknown reason %u", seal.reason);
    }
    memcpy(seal.node_id.b, at + 4, sizeof(seal.node_id.b));
    memcpy(seal.incarnation.b, at + 20, sizeof(seal.incarnation.b));
    memcpy(seal.node, at + HADB_SEAL_HEADER_BYTES, node_len);
    memcpy(seal.address, at + HADB_SEAL_HEADER_BYTES + node_len, address_len);
    const char *fault = seal_fault(&seal);
    if (strlen(seal.node) != node_len || strlen(seal.address) != address_len) {
        fault = "a text with a zero byte";
    }
    if (fault != NULL) {
        return hadb_fail(err, HADB_ECORRUPT, "seal has %s", fault);
    }
    *out = seal;
    return 0;
}

/* ---- meta ---- */

static bool meta_names_valid(const struct hadb_meta *meta)
{
    const char *names[] = {meta->database, meta->engine, meta->hash};
    for (size_t i = 0; i < HADB_LEN(names); i++) {
        if (strnlen(names[i], HADB_NAME_BYTES_MAX + 1) > HADB_NAME_BYTES_MAX ||
            !hadb_name_valid(names[i])) {
            return false;
        }
    }
    return true;
}

int hadb_meta_encode(const struct hadb_meta *meta, struct hadb_buf *out, struct hadb_error *err)
{
    if (!meta_names_valid(meta)) {
        return hadb_fail(err, HADB_EINVAL,
                         "meta has a database, engine or hash name that is not valid");
    }
    if (meta->format != HADB_META_FORMAT || strcmp(meta->hash, HADB_META_HASH) != 0) {
        return hadb_fail(err, HADB_EINVAL, "meta of format %" PRIu32 " with hash %s", meta->format,
                         meta->hash);
    }
    size_t database_len = strlen(meta->database);
    size_t engine_len = strlen(meta->engine);
    size_t hash_len = strlen(meta->hash);
    size_t len = HADB_META_HEADER_BYTES + database_len + engine_len + hash_len;
    if (hadb_buf_reserve(out, len) != 0) {
        return hadb_fail_nomem(err);
    }
    uint8_t *at = out->data + out->len;
    memset(at, 0, HADB_META_HEADER_BYTES);
    at[0] = BODY_VERSION;
    at[1] = (uint8_t)database_len;
    at[2] = (uint8_t)engine_len;
    at[3] = (uint8_t)hash_len;
    hadb_put_u32(at + 4, meta->format);
    hadb_put_u32(at + 8, meta->page_bytes);
    memcpy(at + 16, meta->cluster.b, sizeof(meta->cluster.b));
    hadb_put_u64(at + 32, (uint64_t)meta->created_unix_ms);
    memcpy(at + 40, meta->parent.b, sizeof(meta->parent.b));
    hadb_put_u64(at + 56, meta->parent_slot);
    at += HADB_META_HEADER_BYTES;
    memcpy(at, meta->database, database_len);
    memcpy(at + database_len, meta->engine, engine_len);
    memcpy(at + database_len + engine_len, meta->hash, hash_len);
    out->len += len;
    return 0;
}

int hadb_meta_decode(struct hadb_slice payload, struct hadb_meta *out, struct hadb_error *err)
{
    int r = check_version(payload, HADB_META_HEADER_BYTES, "meta", err);
    if (r != 0) {
        return r;
    }
    const uint8_t *at = payload.data;
    size_t database_len = at[1];
    size_t engine_len = at[2];
    size_t hash_len = at[3];
    const uint8_t *names = at + HADB_META_HEADER_BYTES;
    if (payload.len != HADB_META_HEADER_BYTES + database_len + engine_len + hash_len) {
        return hadb_fail(err, HADB_ECORRUPT, "meta of %zu bytes with names of %zu, %zu and %zu",
                         payload.len, database_len, engine_len, hash_len);
    }
    struct hadb_meta meta = {
        .format = hadb_get_u32(at + 4),
        .page_bytes = hadb_get_u32(at + 8),
        .created_unix_ms = (int64_t)hadb_get_u64(at + 32),
        .parent_slot = hadb_get_u64(at + 56),
    };
    if (meta.format != HADB_META_FORMAT || hadb_get_u32(at + 12) != 0) {
        return hadb_fail(err, HADB_EVERSION,
                         "database has log format %" PRIu32 ", this release reads %u", meta.format,
                         HADB_META_FORMAT);
    }
    if (!load_name(names, database_len, meta.database) ||
        !load_name(names + database_len, engine_len, meta.engine) ||
        !load_name(names + database_len + engine_len, hash_len, meta.hash)) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "meta has a database, engine or hash name that is not valid");
    }
    if (strcmp(meta.hash, HADB_META_HASH) != 0) {
        return hadb_fail(err, HADB_EVERSION, "database is chained with %s, this release knows %s",
                         meta.hash, HADB_META_HASH);
    }
    memcpy(meta.cluster.b, at + 16, sizeof(meta.cluster.b));
    memcpy(meta.parent.b, at + 40, sizeof(meta.parent.b));
    *out = meta;
    return 0;
}

/* ---- name ---- */

int hadb_name_encode(const struct hadb_name *name, struct hadb_buf *out, struct hadb_error *err)
{
    if (hadb_id_is_zero(&name->db)) {
        return hadb_fail(err, HADB_EINVAL, "name points to the zero uuid");
    }
    if (hadb_buf_reserve(out, HADB_NAME_BODY_BYTES) != 0) {
        return hadb_fail_nomem(err);
    }
    uint8_t *at = out->data + out->len;
    memset(at, 0, 8);
    at[0] = BODY_VERSION;
    memcpy(at + 8, name->db.b, sizeof(name->db.b));
    out->len += HADB_NAME_BODY_BYTES;
    return 0;
}

int hadb_name_decode(struct hadb_slice payload, struct hadb_name *out, struct hadb_error *err)
{
    static const uint8_t zero[7];
    int r = check_version(payload, HADB_NAME_BODY_BYTES, "name", err);
    if (r != 0) {
        return r;
    }
    const uint8_t *at = payload.data;
    struct hadb_name name;
    memcpy(name.db.b, at + 8, sizeof(name.db.b));
    if (payload.len != HADB_NAME_BODY_BYTES || memcmp(at + 1, zero, sizeof(zero)) != 0 ||
        hadb_id_is_zero(&name.db)) {
        return hadb_fail(err, HADB_ECORRUPT, "name of %zu bytes is malformed", payload.len);
    }
    *out = name;
    return 0;
}

/* ---- items ---- */

int hadb_item_encode(const struct hadb_item *item, struct hadb_buf *out, struct hadb_error *err)
{
    if (item->key.len == 0) {
        return hadb_fail(err, HADB_EINVAL, "item has an empty key");
    }
    if (item->key.len > HADB_ENGINE_KEY_BYTES_MAX || item->value.len > HADB_VALUE_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "item with a key of %zu and a value of %zu bytes",
                         item->key.len, item->value.len);
    }
    size_t len = HADB_ITEM_HEADER_BYTES + item->key.len + item->value.len;
    if (hadb_buf_reserve(out, len) != 0) {
        return hadb_fail_nomem(err);
    }
    uint8_t *at = out->data + out->len;
    hadb_put_u32(at, (uint32_t)item->key.len);
    hadb_put_u32(at + 4, (uint32_t)item->value.len);
    hadb_put_u64(at + 8, item->version.term);
    hadb_put_u64(at + 16, item->version.txid);
    memcpy(at + HADB_ITEM_HEADER_BYTES, item->key.data, item->key.len);
    if (item->value.len != 0) {
        memcpy(at + HADB_ITEM_HEADER_BYTES + item->key.len, item->value.data, item->value.len);
    }
    out->len += len;
    return 0;
}

int hadb_items_next(struct hadb_items *items, struct hadb_item *out, struct hadb_error *err)
{
    struct hadb_slice rest = items->rest;
    if (rest.len == 0) {
        return HADB_END;
    }
    if (rest.len < HADB_ITEM_HEADER_BYTES) {
        return hadb_fail(err, HADB_ECORRUPT, "item is cut off after %zu bytes", rest.len);
    }
    const uint8_t *at = rest.data;
    size_t key_len = hadb_get_u32(at);
    size_t value_len = hadb_get_u32(at + 4);
    size_t left = rest.len - HADB_ITEM_HEADER_BYTES;
    if (key_len == 0 || key_len > HADB_ENGINE_KEY_BYTES_MAX || key_len > left ||
        value_len > HADB_VALUE_BYTES_MAX || value_len > left - key_len) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "item with a key of %zu and a value of %zu bytes where %zu are left",
                         key_len, value_len, left);
    }
    struct hadb_item item = {
        .key = hadb_slice(at + HADB_ITEM_HEADER_BYTES, key_len),
        .value = hadb_slice(at + HADB_ITEM_HEADER_BYTES + key_len, value_len),
        .version = {.term = hadb_get_u64(at + 8), .txid = hadb_get_u64(at + 16)},
    };
    if (hadb_slice_cmp(items->last_key, item.key) >= 0) {
        return hadb_fail(err, HADB_ECORRUPT, "items are not in key order");
    }
    size_t len = HADB_ITEM_HEADER_BYTES + key_len + value_len;
    items->rest = hadb_slice(at + len, rest.len - len);
    items->last_key = item.key;
    *out = item;
    return 0;
}
