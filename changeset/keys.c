/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 6 and 7 of 8: names of objects in storage (table in keys.h).
 *
 * Thread: any; pure.
 * Invariants: hadb_key_parse() accepts exactly what the writers here produce: it reads the fields, writes the
 *   key again and compares.
 * Happy path: prefix, then the rest.
 * Failure modes: none for writers; foreign text makes parsing return false.
 */
#include "changeset/keys.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/id.h"
#include "changeset/changeset.h"

#define ID_HEX_LEN 32u
#define H4_LEN 4u
#define DB_PREFIX_LEN (H4_LEN + 1 + (HADB_ID_TEXT_BYTES - 1) + 1) /* h4/uuid/ */
#define SNAPSHOT_NAME_LEN (HADB_SNAPSHOT_NAME_BYTES - 1)

static_assert(SNAPSHOT_NAME_LEN == 16 + 1 + ID_HEX_LEN, "snapshot name");
static_assert(SNAPSHOT_NAME_LEN <= HADB_MANIFEST_NAME_BYTES_MAX, "it fits into the manifest");
static_assert(DB_PREFIX_LEN + 5 + SNAPSHOT_NAME_LEN + 1 + 8 < HADB_OBJECT_KEY_BYTES, "longest key");

static void put_key(char out[HADB_OBJECT_KEY_BYTES], const struct hadb_id *db, const char *rest)
{
    char uuid[HADB_ID_TEXT_BYTES];
    char h4[H4_LEN + 1];
    struct hadb_hash hash;
    hadb_sha256(db->b, sizeof(db->b), &hash);
    hadb_hex_encode(hash.b, H4_LEN / 2, h4);
    hadb_id_format(db, uuid);
    int len = snprintf(out, HADB_OBJECT_KEY_BYTES, "%s/%s/%s", h4, uuid, rest);
    HADB_ASSERT(len > 0 && len < HADB_OBJECT_KEY_BYTES);
}

void hadb_key_meta(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES])
{
    put_key(out, db, "meta");
}

void hadb_key_manifest(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES])
{
    put_key(out, db, "manifest");
}

void hadb_key_log(const struct hadb_id *db, uint64_t term, uint64_t slot,
                  char out[HADB_OBJECT_KEY_BYTES])
{
    char rest[48];
    snprintf(rest, sizeof(rest), "log/%016" PRIx64 "/%016" PRIx64, term, slot);
    put_key(out, db, rest);
}

void hadb_key_snapshot_part(const struct hadb_id *db, uint64_t slot, const struct hadb_id *nonce,
                            uint32_t part, char out[HADB_OBJECT_KEY_BYTES])
{
    char name[HADB_SNAPSHOT_NAME_BYTES];
    char rest[80];
    hadb_snapshot_name(slot, nonce, name);
    snprintf(rest, sizeof(rest), "snap/%s/%08" PRIx32, name, part);
    put_key(out, db, rest);
}

void hadb_key_blob(const struct hadb_id *db, const struct hadb_id *put_id, unsigned n,
                   char out[HADB_OBJECT_KEY_BYTES])
{
    char hex[ID_HEX_LEN + 1];
    char rest[48];
    HADB_ASSERT(n < HADB_BLOB_PARTS_MAX);
    hadb_hex_encode(put_id->b, sizeof(put_id->b), hex);
    snprintf(rest, sizeof(rest), "blob/%s-%u", hex, n);
    put_key(out, db, rest);
}

void hadb_key_name(const char *name, char out[HADB_OBJECT_KEY_BYTES])
{
    HADB_ASSERT(hadb_name_valid(name));
    snprintf(out, HADB_OBJECT_KEY_BYTES, "names/%s", name);
}

void hadb_key_probe(const char *version, char out[HADB_OBJECT_KEY_BYTES])
{
    HADB_ASSERT(hadb_name_valid(version));
    snprintf(out, HADB_OBJECT_KEY_BYTES, "probe/%s", version);
}

void hadb_snapshot_name(uint64_t slot, const struct hadb_id *nonce,
                        char out[HADB_SNAPSHOT_NAME_BYTES])
{
    char hex[ID_HEX_LEN + 1];
    hadb_hex_encode(nonce->b, sizeof(nonce->b), hex);
    snprintf(out, HADB_SNAPSHOT_NAME_BYTES, "%016" PRIx64 "-%s", slot, hex);
}

void hadb_key_prefix_db(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES])
{
    put_key(out, db, "");
}

void hadb_key_prefix_log(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES])
{
    put_key(out, db, "log/");
}

void hadb_key_prefix_term(const struct hadb_id *db, uint64_t term, char out[HADB_OBJECT_KEY_BYTES])
{
    char rest[32];
    snprintf(rest, sizeof(rest), "log/%016" PRIx64 "/", term);
    put_key(out, db, rest);
}

void hadb_key_prefix_snapshots(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES])
{
    put_key(out, db, "snap/");
}

void hadb_key_prefix_blobs(const struct hadb_id *db, char out[HADB_OBJECT_KEY_BYTES])
{
    put_key(out, db, "blob/");
}

/* Reads @digits lower-case hex digits; stops at anything else, NUL included. */
static bool read_hex(const char **at, unsigned digits, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < digits; i++) {
        char c = (*at)[i];
        if (c >= '0' && c <= '9') {
            value = value << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return false;
        }
    }
    *at += digits;
    *out = value;
    return true;
}

static bool read_id(const char **at, struct hadb_id *out)
{
    if (strnlen(*at, ID_HEX_LEN) != ID_HEX_LEN ||
        !hadb_hex_decode(*at, ID_HEX_LEN, out->b, sizeof(out->b))) {
        return false;
    }
    *at += ID_HEX_LEN;
    return true;
}

static bool skip(const char **at, const char *text)
{
    size_t len = strlen(text);
    if (strncmp(*at, text, len) != 0) {
        return false;
    }
    *at += len;
    return true;
}

bool hadb_snapshot_name_parse(const char *name, uint64_t *slot, struct hadb_id *nonce)
{
    const char *at = name;
    struct hadb_id id;
    uint64_t value = 0;
    char again[HADB_SNAPSHOT_NAME_BYTES];
    if (!read_hex(&at, 16, &value) || !skip(&at, "-") || !read_id(&at, &id)) {
        return false;
    }
    hadb_snapshot_name(value, &id, again);
    if (strcmp(again, name) != 0) {
        return false;
    }
    *slot = value;
    *nonce = id;
    return true;
}

/* Reads what follows <h4>/<uuid>/ and writes the key that it must have been into @again. */
static bool parse_rest(const char *at, struct hadb_key_parts *out,
                       char again[HADB_OBJECT_KEY_BYTES])
{
    uint64_t part = 0;
    if (strcmp(at, "meta") == 0) {
        out->type = HADB_KEY_META;
        hadb_key_meta(&out->db, again);
        return true;
    }
    if (strcmp(at, "manifest") == 0) {
        out->type = HADB_KEY_MANIFEST;
        hadb_key_manifest(&out->db, again);
        return true;
    }
    if (skip(&at, "log/")) {
        out->type = HADB_KEY_LOG;
        if (!read_hex(&at, 16, &out->term) || !skip(&at, "/") || !read_hex(&at, 16, &out->slot)) {
            return false;
        }
        hadb_key_log(&out->db, out->term, out->slot, again);
        return true;
    }
    if (skip(&at, "snap/")) {
        out->type = HADB_KEY_SNAPSHOT;
        if (!read_hex(&at, 16, &out->slot) || !skip(&at, "-") || !read_id(&at, &out->nonce) ||
            !skip(&at, "/") || !read_hex(&at, 8, &part)) {
            return false;
        }
        out->part = (uint32_t)part;
        hadb_key_snapshot_part(&out->db, out->slot, &out->nonce, out->part, again);
        return true;
    }
    if (skip(&at, "blob/")) {
        out->type = HADB_KEY_BLOB;
        if (!read_id(&at, &out->nonce) || !skip(&at, "-") || !read_hex(&at, 1, &part) ||
            part >= HADB_BLOB_PARTS_MAX) {
            return false;
        }
        out->part = (uint32_t)part;
        hadb_key_blob(&out->db, &out->nonce, out->part, again);
        return true;
    }
    return false;
}

static bool parse_named(const char *name, enum hadb_key_type type, struct hadb_key_parts *out)
{
    if (!hadb_name_valid(name)) {
        return false;
    }
    *out = (struct hadb_key_parts){.type = type};
    snprintf(out->name, sizeof(out->name), "%s", name);
    return true;
}

bool hadb_key_parse(const char *key, struct hadb_key_parts *out)
{
    const char *at = key;
    if (skip(&at, "names/")) {
        return parse_named(at, HADB_KEY_NAME, out);
    }
    if (skip(&at, "probe/")) {
        return parse_named(at, HADB_KEY_PROBE, out);
    }
    struct hadb_key_parts parts = {0};
    char uuid[HADB_ID_TEXT_BYTES] = {0};
    char again[HADB_OBJECT_KEY_BYTES];
    if (strnlen(key, DB_PREFIX_LEN) != DB_PREFIX_LEN) {
        return false;
    }
    memcpy(uuid, key + H4_LEN + 1, sizeof(uuid) - 1);
    if (!hadb_id_parse(uuid, &parts.db) || !parse_rest(key + DB_PREFIX_LEN, &parts, again) ||
        strcmp(again, key) != 0) {
        return false;
    }
    *out = parts;
    return true;
}
