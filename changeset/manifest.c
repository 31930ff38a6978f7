/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 4 of 8: the manifest (byte table in manifest.h), encoded, decoded and changed in memory.
 *
 * Thread: any; a struct hadb_manifest belongs to one thread at a time.
 * Invariants: sections and lists are in their one order, so encode(decode(b)) == b; no snapshot is condemned;
 *   nothing was swept above the boundary. Every list has a named cap that is checked before memory grows.
 * Happy path: check the whole picture, write the header, then each section that is not empty.
 * Failure modes: broken invariants (HADB_EINVAL writing, HADB_ECORRUPT reading), a critical section of a newer
 *   release (HADB_EVERSION), limits, memory. Outputs stay untouched.
 */
#include "changeset/manifest.h"

#include <assert.h>
#include <inttypes.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "changeset/changeset.h"

#define MANIFEST_VERSION 1u
#define SECTION_HEADER_BYTES 8u
#define PAYLOAD_BYTES_MAX (HADB_MANIFEST_BYTES_MAX - HADB_ENTRY_HEADER_BYTES)

enum { TAG_SNAPSHOTS = 1, TAG_TERMS = 2, TAG_CONDEMNED = 3, TAG_KNOWN_MAX = 3 };

static_assert(HADB_MANIFEST_HEADER_BYTES == 16 + sizeof(struct hadb_id) + 5 * 8, "header");
static_assert(HADB_MANIFEST_TERM_BYTES == 3 * 8 + sizeof(struct hadb_hash), "term");
static_assert(HADB_MANIFEST_SNAPSHOT_BYTES == 8 + 5 * 8 + 3 * sizeof(struct hadb_hash), "snapshot");
static_assert(HADB_MANIFEST_NAME_BYTES_MAX <= UINT8_MAX, "name lengths are one byte");

/* ---- checks ---- */

static bool name_valid(const char *name)
{
    size_t len = strnlen(name, HADB_MANIFEST_NAME_BYTES_MAX + 1);
    if (len == 0 || len > HADB_MANIFEST_NAME_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (name[i] <= ' ' || name[i] > '~') {
            return false;
        }
    }
    return true;
}

/* Where @name is among the condemned ones, or would be. */
static size_t condemned_place(const struct hadb_manifest *manifest, const char *name, bool *there)
{
    size_t low = 0;
    size_t high = manifest->condemned_len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int r = strcmp(manifest->condemned[middle], name);
        if (r == 0) {
            *there = true;
            return middle;
        }
        if (r < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *there = false;
    return low;
}

static const char *snapshots_fault(const struct hadb_manifest *manifest)
{
    for (size_t i = 0; i < manifest->snapshots_len; i++) {
        bool condemned = false;
        if (!name_valid(manifest->snapshots[i].name)) {
            return "a snapshot name that is not valid";
        }
        if (manifest->snapshots[i].parts == 0) {
            return "a snapshot without parts";
        }
        condemned_place(manifest, manifest->snapshots[i].name, &condemned);
        if (condemned) {
            return "a snapshot that is condemned";
        }
        for (size_t j = 0; j < i; j++) { /* at most half a million short comparisons */
            if (strcmp(manifest->snapshots[j].name, manifest->snapshots[i].name) == 0) {
                return "two snapshots of one name";
            }
        }
    }
    return NULL;
}

/* A short text about a broken invariant; NULL when the whole picture is fine. */
static const char *manifest_fault(const struct hadb_manifest *manifest)
{
    if (manifest->snapshots_len > HADB_MANIFEST_SNAPSHOTS_MAX ||
        manifest->terms_len > HADB_MANIFEST_TERMS_MAX ||
        manifest->condemned_len > HADB_MANIFEST_CONDEMNED_MAX ||
        manifest->sections_len > HADB_MANIFEST_SECTIONS_MAX) {
        return "a list over its limit";
    }
    if (manifest->swept_slot > manifest->boundary_slot) {
        return "slots swept above the boundary";
    }
    for (size_t i = 0; i < manifest->terms_len; i++) {
        uint64_t term = manifest->terms[i].term;
        if (i == 0 ? term < manifest->terms_floor : term <= manifest->terms[i - 1].term) {
            return "terms out of order";
        }
    }
    for (size_t i = 0; i < manifest->condemned_len; i++) {
        if (!name_valid(manifest->condemned[i])) {
            return "a condemned name that is not valid";
        }
        if (i > 0 && strcmp(manifest->condemned[i - 1], manifest->condemned[i]) >= 0) {
            return "condemned names out of order";
        }
    }
    for (size_t i = 0; i < manifest->sections_len; i++) {
        const struct hadb_manifest_section *section = &manifest->sections[i];
        uint32_t above = i == 0 ? TAG_KNOWN_MAX : manifest->sections[i - 1].tag;
        if (section->tag <= above || section->bytes.len == 0) {
            return "sections out of order or empty";
        }
    }
    return snapshots_fault(manifest);
}

/* ---- encode ---- */

static size_t snapshots_bytes(const struct hadb_manifest *manifest)
{
    size_t len = 0;
    for (size_t i = 0; i < manifest->snapshots_len; i++) {
        len += HADB_MANIFEST_SNAPSHOT_BYTES + strlen(manifest->snapshots[i].name);
    }
    return len;
}

static size_t condemned_bytes(const struct hadb_manifest *manifest)
{
    size_t len = 0;
    for (size_t i = 0; i < manifest->condemned_len; i++) {
        len += 1 + strlen(manifest->condemned[i]);
    }
    return len;
}

static uint8_t *write_section(uint8_t *at, uint32_t tag, size_t len)
{
    hadb_put_u32(at, tag);
    hadb_put_u32(at + 4, (uint32_t)len);
    return at + SECTION_HEADER_BYTES;
}

static uint8_t *write_snapshot(uint8_t *at, const struct hadb_manifest_snapshot *snapshot)
{
    size_t name_len = strlen(snapshot->name);
    memset(at, 0, 4);
    at[0] = (uint8_t)name_len;
    hadb_put_u32(at + 4, snapshot->parts);
    hadb_put_u64(at + 8, snapshot->bytes);
    hadb_put_u64(at + 16, (uint64_t)snapshot->time_unix_ms);
    hadb_put_u64(at + 24, snapshot->pos.term);
    hadb_put_u64(at + 32, snapshot->pos.slot);
    hadb_put_u64(at + 40, snapshot->pos.txid);
    memcpy(at + 48, snapshot->pos.hash.b, sizeof(snapshot->pos.hash.b));
    memcpy(at + 80, snapshot->last_hash.b, sizeof(snapshot->last_hash.b));
    memcpy(at + 112, snapshot->digest.b, sizeof(snapshot->digest.b));
    memcpy(at + HADB_MANIFEST_SNAPSHOT_BYTES, snapshot->name, name_len);
    return at + HADB_MANIFEST_SNAPSHOT_BYTES + name_len;
}

static uint8_t *write_term(uint8_t *at, const struct hadb_manifest_term *term)
{
    hadb_put_u64(at, term->term);
    hadb_put_u64(at + 8, term->last_slot);
    hadb_put_u64(at + 16, term->last_txid);
    memcpy(at + 24, term->seal_hash.b, sizeof(term->seal_hash.b));
    return at + HADB_MANIFEST_TERM_BYTES;
}

static uint8_t *write_lists(uint8_t *at, const struct hadb_manifest *manifest)
{
    if (manifest->snapshots_len != 0) {
        at = write_section(at, TAG_SNAPSHOTS, snapshots_bytes(manifest));
        for (size_t i = 0; i < manifest->snapshots_len; i++) {
            at = write_snapshot(at, &manifest->snapshots[i]);
        }
    }
    if (manifest->terms_len != 0) {
        at = write_section(at, TAG_TERMS, manifest->terms_len * HADB_MANIFEST_TERM_BYTES);
        for (size_t i = 0; i < manifest->terms_len; i++) {
            at = write_term(at, &manifest->terms[i]);
        }
    }
    if (manifest->condemned_len != 0) {
        at = write_section(at, TAG_CONDEMNED, condemned_bytes(manifest));
        for (size_t i = 0; i < manifest->condemned_len; i++) {
            size_t len = strlen(manifest->condemned[i]);
            *at = (uint8_t)len;
            memcpy(at + 1, manifest->condemned[i], len);
            at += 1 + len;
        }
    }
    for (size_t i = 0; i < manifest->sections_len; i++) {
        const struct hadb_buf *bytes = &manifest->sections[i].bytes;
        at = write_section(at, manifest->sections[i].tag, bytes->len);
        memcpy(at, bytes->data, bytes->len);
        at += bytes->len;
    }
    return at;
}

static size_t encoded_bytes(const struct hadb_manifest *manifest)
{
    size_t len = HADB_MANIFEST_HEADER_BYTES;
    size_t lists = (manifest->snapshots_len != 0) + (manifest->terms_len != 0) +
                   (manifest->condemned_len != 0);
    len += lists * SECTION_HEADER_BYTES;
    len += snapshots_bytes(manifest) + condemned_bytes(manifest);
    len += manifest->terms_len * HADB_MANIFEST_TERM_BYTES;
    for (size_t i = 0; i < manifest->sections_len; i++) {
        len += SECTION_HEADER_BYTES + manifest->sections[i].bytes.len;
    }
    return len;
}

int hadb_manifest_encode(const struct hadb_manifest *manifest, struct hadb_buf *out,
                         struct hadb_error *err)
{
    const char *fault = manifest_fault(manifest);
    if (fault != NULL) {
        return hadb_fail(err, HADB_EINVAL, "manifest has %s", fault);
    }
    size_t len = encoded_bytes(manifest);
    if (len > PAYLOAD_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "manifest of %zu bytes, at most %u", len,
                         PAYLOAD_BYTES_MAX);
    }
    if (hadb_buf_reserve(out, len) != 0) {
        return hadb_fail_nomem(err);
    }
    uint8_t *at = out->data + out->len;
    memset(at, 0, HADB_MANIFEST_HEADER_BYTES);
    at[0] = MANIFEST_VERSION;
    hadb_put_u64(at + 8, manifest->version);
    memcpy(at + 16, manifest->nonce.b, sizeof(manifest->nonce.b));
    hadb_put_u64(at + 32, manifest->boundary_slot);
    hadb_put_u64(at + 40, manifest->boundary_term);
    hadb_put_u64(at + 48, manifest->swept_slot);
    hadb_put_u64(at + 56, manifest->swept_term);
    hadb_put_u64(at + 64, manifest->terms_floor);
    at = write_lists(at + HADB_MANIFEST_HEADER_BYTES, manifest);
    out->len += len;
    HADB_ASSERT(at == out->data + out->len);
    return 0;
}

/* ---- lists in memory ---- */

/* Room for one more of @size bytes behind @len; NULL when out of memory, and nothing changed. */
static void *grown(void *items, size_t *cap, size_t len, size_t size)
{
    if (len < *cap) {
        return items;
    }
    size_t more = *cap + *cap / 2 + 4;
    void *moved = hadb_realloc(items, more * size);
    if (moved != NULL) {
        *cap = more;
    }
    return moved;
}

/* @name has @len bytes and is NUL-terminated or not. Inserts a copy at @place. */
static int insert_condemned(struct hadb_manifest *manifest, size_t place, const char *name,
                            size_t len, struct hadb_error *err)
{
    char **list = grown(manifest->condemned, &manifest->condemned_cap, manifest->condemned_len,
                        sizeof(*list));
    if (list == NULL) {
        return hadb_fail_nomem(err);
    }
    manifest->condemned = list;
    char *copy = hadb_malloc(len + 1);
    if (copy == NULL) {
        return hadb_fail_nomem(err);
    }
    memcpy(copy, name, len);
    copy[len] = '\0';
    memmove(&list[place + 1], &list[place], (manifest->condemned_len - place) * sizeof(*list));
    list[place] = copy;
    manifest->condemned_len++;
    return 0;
}

static int append_snapshot(struct hadb_manifest *manifest,
                           const struct hadb_manifest_snapshot *snapshot, struct hadb_error *err)
{
    struct hadb_manifest_snapshot *list = grown(manifest->snapshots, &manifest->snapshots_cap,
                                                manifest->snapshots_len, sizeof(*list));
    if (list == NULL) {
        return hadb_fail_nomem(err);
    }
    manifest->snapshots = list;
    list[manifest->snapshots_len++] = *snapshot;
    return 0;
}

static int append_term(struct hadb_manifest *manifest, const struct hadb_manifest_term *term,
                       struct hadb_error *err)
{
    struct hadb_manifest_term *list =
        grown(manifest->terms, &manifest->terms_cap, manifest->terms_len, sizeof(*list));
    if (list == NULL) {
        return hadb_fail_nomem(err);
    }
    manifest->terms = list;
    list[manifest->terms_len++] = *term;
    return 0;
}

static int append_section(struct hadb_manifest *manifest, uint32_t tag, struct hadb_slice bytes,
                          struct hadb_error *err)
{
    struct hadb_manifest_section *list =
        grown(manifest->sections, &manifest->sections_cap, manifest->sections_len, sizeof(*list));
    if (list == NULL) {
        return hadb_fail_nomem(err);
    }
    manifest->sections = list;
    struct hadb_manifest_section section = {.tag = tag};
    if (hadb_buf_append(&section.bytes, bytes.data, bytes.len) != 0) {
        return hadb_fail_nomem(err);
    }
    list[manifest->sections_len++] = section;
    return 0;
}

void hadb_manifest_deinit(struct hadb_manifest *manifest)
{
    for (size_t i = 0; i < manifest->condemned_len; i++) {
        hadb_free(manifest->condemned[i]);
    }
    for (size_t i = 0; i < manifest->sections_len; i++) {
        hadb_buf_deinit(&manifest->sections[i].bytes);
    }
    hadb_free(manifest->snapshots);
    hadb_free(manifest->terms);
    hadb_free(manifest->condemned);
    hadb_free(manifest->sections);
    *manifest = (struct hadb_manifest){0};
}

/* ---- decode ---- */

static int cut_off(const char *what, struct hadb_error *err)
{
    return hadb_fail(err, HADB_ECORRUPT, "manifest has a %s that is cut off", what);
}

static int over_limit(const char *what, unsigned limit, struct hadb_error *err)
{
    return hadb_fail(err, HADB_ECORRUPT, "manifest has more than %u %s", limit, what);
}

static int read_snapshots(struct hadb_slice bytes, struct hadb_manifest *out,
                          struct hadb_error *err)
{
    static const uint8_t zero[3];
    const uint8_t *at = bytes.data;
    size_t left = bytes.len;
    while (left != 0) {
        size_t name_len = at[0];
        if (left < HADB_MANIFEST_SNAPSHOT_BYTES || left - HADB_MANIFEST_SNAPSHOT_BYTES < name_len) {
            return cut_off("snapshot", err);
        }
        if (out->snapshots_len == HADB_MANIFEST_SNAPSHOTS_MAX) {
            return over_limit("snapshots", HADB_MANIFEST_SNAPSHOTS_MAX, err);
        }
        struct hadb_manifest_snapshot snapshot = {
            .parts = hadb_get_u32(at + 4),
            .bytes = hadb_get_u64(at + 8),
            .time_unix_ms = (int64_t)hadb_get_u64(at + 16),
            .pos = {.term = hadb_get_u64(at + 24),
                    .slot = hadb_get_u64(at + 32),
                    .txid = hadb_get_u64(at + 40)},
        };
        const uint8_t *name = at + HADB_MANIFEST_SNAPSHOT_BYTES;
        if (memcmp(at + 1, zero, sizeof(zero)) != 0 || name_len > HADB_MANIFEST_NAME_BYTES_MAX ||
            memchr(name, 0, name_len) != NULL) {
            return hadb_fail(err, HADB_ECORRUPT, "manifest has a malformed snapshot");
        }
        memcpy(snapshot.pos.hash.b, at + 48, sizeof(snapshot.pos.hash.b));
        memcpy(snapshot.last_hash.b, at + 80, sizeof(snapshot.last_hash.b));
        memcpy(snapshot.digest.b, at + 112, sizeof(snapshot.digest.b));
        memcpy(snapshot.name, name, name_len);
        int r = append_snapshot(out, &snapshot, err);
        if (r != 0) {
            return r;
        }
        at += HADB_MANIFEST_SNAPSHOT_BYTES + name_len;
        left -= HADB_MANIFEST_SNAPSHOT_BYTES + name_len;
    }
    return 0;
}

static int read_terms(struct hadb_slice bytes, struct hadb_manifest *out, struct hadb_error *err)
{
    const uint8_t *at = bytes.data;
    size_t count = bytes.len / HADB_MANIFEST_TERM_BYTES;
    if (bytes.len % HADB_MANIFEST_TERM_BYTES != 0) {
        return cut_off("term", err);
    }
    if (count > HADB_MANIFEST_TERMS_MAX) {
        return over_limit("terms", HADB_MANIFEST_TERMS_MAX, err);
    }
    for (size_t i = 0; i < count; i++, at += HADB_MANIFEST_TERM_BYTES) {
        struct hadb_manifest_term term = {
            .term = hadb_get_u64(at),
            .last_slot = hadb_get_u64(at + 8),
            .last_txid = hadb_get_u64(at + 16),
        };
        memcpy(term.seal_hash.b, at + 24, sizeof(term.seal_hash.b));
        int r = append_term(out, &term, err);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

static int read_condemned(struct hadb_slice bytes, struct hadb_manifest *out,
                          struct hadb_error *err)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.len;
    while (left != 0) {
        size_t len = at[0];
        if (left - 1 < len) {
            return cut_off("condemned name", err);
        }
        if (out->condemned_len == HADB_MANIFEST_CONDEMNED_MAX) {
            return over_limit("condemned names", HADB_MANIFEST_CONDEMNED_MAX, err);
        }
        if (memchr(at + 1, 0, len) != NULL) {
            return hadb_fail(err, HADB_ECORRUPT, "manifest has a malformed condemned name");
        }
        int r = insert_condemned(out, out->condemned_len, (const char *)at + 1, len, err);
        if (r != 0) {
            return r;
        }
        at += 1 + len;
        left -= 1 + len;
    }
    return 0;
}

static int read_section(uint32_t tag, struct hadb_slice bytes, struct hadb_manifest *out,
                        struct hadb_error *err)
{
    switch (tag) {
    case TAG_SNAPSHOTS:
        return read_snapshots(bytes, out, err);
    case TAG_TERMS:
        return read_terms(bytes, out, err);
    case TAG_CONDEMNED:
        return read_condemned(bytes, out, err);
    default:
        break;
    }
    if ((tag & HADB_MANIFEST_TAG_CRITICAL) != 0) {
        return hadb_fail(err, HADB_EVERSION,
                         "manifest has the section 0x%" PRIx32
                         " that this release must understand and does not",
                         tag);
    }
    if (out->sections_len == HADB_MANIFEST_SECTIONS_MAX) {
        return over_limit("unknown sections", HADB_MANIFEST_SECTIONS_MAX, err);
    }
    return append_section(out, tag, bytes, err);
}

static int read_sections(struct hadb_slice rest, struct hadb_manifest *out, struct hadb_error *err)
{
    const uint8_t *at = rest.data;
    size_t left = rest.len;
    uint32_t last_tag = 0;
    while (left != 0) {
        if (left < SECTION_HEADER_BYTES) {
            return cut_off("section", err);
        }
        uint32_t tag = hadb_get_u32(at);
        size_t len = hadb_get_u32(at + 4);
        at += SECTION_HEADER_BYTES;
        left -= SECTION_HEADER_BYTES;
        if (len > left) {
            return cut_off("section", err);
        }
        if (tag <= last_tag || len == 0) {
            return hadb_fail(err, HADB_ECORRUPT, "manifest has sections out of order or empty");
        }
        int r = read_section(tag, hadb_slice(at, len), out, err);
        if (r != 0) {
            return r;
        }
        last_tag = tag;
        at += len;
        left -= len;
    }
    return 0;
}

static int check_header(struct hadb_slice payload, struct hadb_error *err)
{
    static const uint8_t zero[7];
    const uint8_t *at = payload.data;
    if (payload.len == 0 || payload.len > PAYLOAD_BYTES_MAX) {
        return hadb_fail(err, HADB_ECORRUPT, "manifest of %zu bytes", payload.len);
    }
    if (at[0] != MANIFEST_VERSION) {
        return hadb_fail(err, HADB_EVERSION,
                         "manifest has version %u, this release reads version %u", at[0],
                         MANIFEST_VERSION);
    }
    if (payload.len < HADB_MANIFEST_HEADER_BYTES || memcmp(at + 1, zero, sizeof(zero)) != 0) {
        return hadb_fail(err, HADB_ECORRUPT, "manifest has a malformed header");
    }
    return 0;
}

int hadb_manifest_decode(struct hadb_slice payload, struct hadb_manifest *out,
                         struct hadb_error *err)
{
    int r = check_header(payload, err);
    if (r != 0) {
        return r;
    }
    const uint8_t *at = payload.data;
    struct hadb_manifest manifest = {
        .version = hadb_get_u64(at + 8),
        .boundary_slot = hadb_get_u64(at + 32),
        .boundary_term = hadb_get_u64(at + 40),
        .swept_slot = hadb_get_u64(at + 48),
        .swept_term = hadb_get_u64(at + 56),
        .terms_floor = hadb_get_u64(at + 64),
    };
    memcpy(manifest.nonce.b, at + 16, sizeof(manifest.nonce.b));
    r = read_sections(
        hadb_slice(at + HADB_MANIFEST_HEADER_BYTES, payload.len - HADB_MANIFEST_HEADER_BYTES),
        &manifest, err);
    if (r == 0) {
        const char *fault = manifest_fault(&manifest);
        r = fault == NULL ? 0 : hadb_fail(err, HADB_ECORRUPT, "manifest has %s", fault);
    }
    if (r != 0) {
        hadb_manifest_deinit(&manifest);
        return r;
    }
    *out = manifest;
    return 0;
}

int hadb_manifest_copy(const struct hadb_manifest *manifest, struct hadb_manifest *out,
                       struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    int r = hadb_manifest_encode(manifest, &bytes, err);
    return r != 0 ? r : hadb_manifest_decode(hadb_buf_slice(&bytes), out, err);
}

/* ---- changes ---- */

int hadb_manifest_add_snapshot(struct hadb_manifest *manifest,
                               const struct hadb_manifest_snapshot *snapshot,
                               struct hadb_error *err)
{
    bool condemned = false;
    if (!name_valid(snapshot->name) || snapshot->parts == 0) {
        return hadb_fail(err, HADB_EINVAL, "snapshot without a valid name or without parts");
    }
    condemned_place(manifest, snapshot->name, &condemned);
    for (size_t i = 0; i < manifest->snapshots_len; i++) {
        condemned = condemned || strcmp(manifest->snapshots[i].name, snapshot->name) == 0;
    }
    if (condemned) {
        return hadb_fail(err, HADB_EINVAL, "snapshot name %s was used before", snapshot->name);
    }
    if (manifest->snapshots_len >= HADB_MANIFEST_SNAPSHOTS_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "manifest holds %u snapshots already",
                         HADB_MANIFEST_SNAPSHOTS_MAX);
    }
    return append_snapshot(manifest, snapshot, err);
}

int hadb_manifest_drop_snapshot(struct hadb_manifest *manifest, size_t index,
                                struct hadb_error *err)
{
    HADB_ASSERT(index < manifest->snapshots_len);
    int r = hadb_manifest_condemn(manifest, manifest->snapshots[index].name, err);
    if (r != 0) {
        return r;
    }
    size_t behind = manifest->snapshots_len - index - 1;
    memmove(&manifest->snapshots[index], &manifest->snapshots[index + 1],
            behind * sizeof(*manifest->snapshots));
    manifest->snapshots_len--;
    return 0;
}

const struct hadb_manifest_snapshot *hadb_manifest_newest(const struct hadb_manifest *manifest)
{
    const struct hadb_manifest_snapshot *newest = NULL;
    for (size_t i = 0; i < manifest->snapshots_len; i++) {
        if (newest == NULL || manifest->snapshots[i].pos.slot >= newest->pos.slot) {
            newest = &manifest->snapshots[i];
        }
    }
    return newest;
}

const struct hadb_manifest_term *hadb_manifest_find_term(const struct hadb_manifest *manifest,
                                                         uint64_t term)
{
    size_t low = 0;
    size_t high = manifest->terms_len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (manifest->terms[middle].term == term) {
            return &manifest->terms[middle];
        }
        if (manifest->terms[middle].term < term) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

int hadb_manifest_add_term(struct hadb_manifest *manifest, const struct hadb_manifest_term *term,
                           struct hadb_error *err)
{
    const struct hadb_manifest_term *same = hadb_manifest_find_term(manifest, term->term);
    if (term->term < manifest->terms_floor) {
        return 0;
    }
    if (same != NULL && same->last_slot == term->last_slot && same->last_txid == term->last_txid &&
        hadb_hash_eq(&same->seal_hash, &term->seal_hash)) {
        return 0;
    }
    if (manifest->terms_len != 0 && manifest->terms[manifest->terms_len - 1].term >= term->term) {
        return hadb_fail(err, HADB_EINVAL, "term %" PRIu64 " contradicts the term table",
                         term->term);
    }
    int r = append_term(manifest, term, err);
    if (r == 0 && manifest->terms_len > HADB_MANIFEST_TERMS_MAX) {
        manifest->terms_len--;
        memmove(&manifest->terms[0], &manifest->terms[1],
                manifest->terms_len * sizeof(*manifest->terms));
        manifest->terms_floor = manifest->terms[0].term;
    }
    return r;
}

int hadb_manifest_condemn(struct hadb_manifest *manifest, const char *name, struct hadb_error *err)
{
    bool there = false;
    if (!name_valid(name)) {
        return hadb_fail(err, HADB_EINVAL, "condemned name is not valid");
    }
    size_t place = condemned_place(manifest, name, &there);
    if (there) {
        return 0;
    }
    if (manifest->condemned_len >= HADB_MANIFEST_CONDEMNED_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "manifest condemns %u names already",
                         HADB_MANIFEST_CONDEMNED_MAX);
    }
    return insert_condemned(manifest, place, name, strlen(name), err);
}

bool hadb_manifest_absolve(struct hadb_manifest *manifest, const char *name)
{
    bool there = false;
    size_t place = condemned_place(manifest, name, &there);
    if (!there) {
        return false;
    }
    hadb_free(manifest->condemned[place]);
    manifest->condemned_len--;
    memmove(&manifest->condemned[place], &manifest->condemned[place + 1],
            (manifest->condemned_len - place) * sizeof(*manifest->condemned));
    return true;
}
