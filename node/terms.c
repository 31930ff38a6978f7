/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hops 5 and 7 of 8: the term table. Owns the file `terms` of a database; see terms.h for its bytes.
 *
 * Thread: whoever holds the table; load and store block.
 * Invariants: terms ascend without a gap; the file is whole or the old one.
 * Failure modes: a damaged file is HADB_ECORRUPT with its name; the caller rebuilds from storage.
 */
#include "node/terms.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/id.h"

#include <inttypes.h>
#include <stdio.h>

#define TERMS_MAGIC "HADBTERM"
#define TERMS_VERSION 1u
#define NAME_BYTES 64u
#define ADDRESS_BYTES 256u

static_assert(40u + NAME_BYTES + ADDRESS_BYTES == HADB_TERMS_HEADER_BYTES, "header layout");
static_assert(HADB_ADDRESS_BYTES_MAX < ADDRESS_BYTES, "an address and its NUL fit");

void hadb_terms_deinit(struct hadb_terms *terms)
{
    if (terms) {
        hadb_free(terms->items);
        *terms = (struct hadb_terms){0};
    }
}

int hadb_terms_copy(const struct hadb_terms *terms, struct hadb_terms *out, struct hadb_error *err)
{
    struct hadb_terms copy = *terms;
    copy.cap = terms->len;
    copy.items = hadb_malloc(HADB_MAX(terms->len, 1u) * sizeof *copy.items);
    if (!copy.items) {
        return hadb_fail_nomem(err);
    }
    if (terms->len > 0) {
        memcpy(copy.items, terms->items, terms->len * sizeof *copy.items);
    }
    *out = copy;
    return 0;
}

static int terms_grow(struct hadb_terms *terms, struct hadb_error *err)
{
    if (terms->len < terms->cap) {
        return 0;
    }
    size_t cap = HADB_MAX(8u, terms->cap * 2);
    struct hadb_term *items = hadb_realloc(terms->items, cap * sizeof *items);
    if (!items) {
        return hadb_fail_nomem(err);
    }
    terms->items = items;
    terms->cap = cap;
    return 0;
}

int hadb_terms_add(struct hadb_terms *terms, const struct hadb_term *term, const char *next_name,
                   const char *next_address, struct hadb_error *err)
{
    const struct hadb_term *there = hadb_terms_find(terms, term->term);
    size_t keep = there ? (size_t)(there - terms->items) : terms->len;
    if (keep > 0 && term->term != terms->items[keep - 1].term + 1) {
        return hadb_fail(err, HADB_EINVAL, "term %" PRIu64 " does not follow term %" PRIu64,
                         term->term, terms->items[keep - 1].term);
    }
    if (strlen(next_name) > HADB_NAME_BYTES_MAX || strlen(next_address) > HADB_ADDRESS_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "name or address of a node is too long");
    }
    terms->len = keep; /* what lay behind it is learnt again, or was never on the history */
    if (terms->len == HADB_TERMS_MAX) {
        memmove(terms->items, terms->items + 1, (terms->len - 1) * sizeof *terms->items);
        terms->len--;
        terms->floor = terms->items[0].term;
    }
    int r = terms_grow(terms, err);
    if (r < 0) {
        return r;
    }
    if (terms->len == 0) {
        terms->floor = term->term;
    }
    terms->items[terms->len++] = *term;
    snprintf(terms->next_name, sizeof terms->next_name, "%s", next_name);
    snprintf(terms->next_address, sizeof terms->next_address, "%s", next_address);
    return 0;
}

const struct hadb_term *hadb_terms_find(const struct hadb_terms *terms, uint64_t term)
{
    if (terms->len == 0 || term < terms->items[0].term ||
        term > terms->items[terms->len - 1].term) {
        return NULL;
    }
    const struct hadb_term *found = &terms->items[term - terms->items[0].term];
    HADB_ASSERT(found->term == term);
    return found;
}

struct hadb_owner hadb_terms_owner(const struct hadb_terms *terms, uint64_t term)
{
    const struct hadb_term *before = term > 0 ? hadb_terms_find(terms, term - 1) : NULL;
    return before ? before->next : (struct hadb_owner){0};
}

uint64_t hadb_terms_unswept(const struct hadb_terms *terms, uint64_t swept_slot)
{
    for (size_t i = 0; i < terms->len; i++) {
        if (terms->items[i].last_slot > swept_slot) {
            return i > 0 ? terms->items[i].term : terms->floor == 0 ? terms->items[i].term : 0;
        }
    }
    return terms->len > 0 ? terms->items[terms->len - 1].term + 1 : 0;
}

static void record_put(uint8_t *p, const struct hadb_term *term)
{
    hadb_put_u64(p, term->term);
    hadb_put_u64(p + 8, term->last_slot);
    hadb_put_u64(p + 16, term->last_txid);
    memcpy(p + 24, term->seal_hash.b, 32);
    memcpy(p + 56, term->next.node.b, 16);
    memcpy(p + 72, term->next.incarnation.b, 16);
}

static void record_get(const uint8_t *p, struct hadb_term *out)
{
    out->term = hadb_get_u64(p);
    out->last_slot = hadb_get_u64(p + 8);
    out->last_txid = hadb_get_u64(p + 16);
    memcpy(out->seal_hash.b, p + 24, 32);
    memcpy(out->next.node.b, p + 56, 16);
    memcpy(out->next.incarnation.b, p + 72, 16);
}

int hadb_terms_encode(const struct hadb_terms *terms, struct hadb_buf *out, struct hadb_error *err)
{
    size_t bytes = HADB_TERMS_HEADER_BYTES + terms->len * HADB_TERMS_RECORD_BYTES + 4;
    if (hadb_buf_reserve(out, bytes) < 0) {
        return hadb_fail_nomem(err);
    }
    uint8_t *start = out->data + out->len;
    memset(start, 0, bytes);
    memcpy(start, TERMS_MAGIC, 8);
    hadb_put_u32(start + 8, TERMS_VERSION);
    hadb_put_u32(start + 12, (uint32_t)terms->len);
    memcpy(start + 16, terms->db.b, 16);
    hadb_put_u64(start + 32, terms->floor);
    memcpy(start + 40, terms->next_name, strlen(terms->next_name));
    memcpy(start + 40 + NAME_BYTES, terms->next_address, strlen(terms->next_address));
    for (size_t i = 0; i < terms->len; i++) {
        record_put(start + HADB_TERMS_HEADER_BYTES + i * HADB_TERMS_RECORD_BYTES, &terms->items[i]);
    }
    hadb_put_u32(start + bytes - 4, hadb_crc32c(0, start, bytes - 4));
    out->len += bytes;
    return 0;
}

static int header_check(struct hadb_slice bytes, const struct hadb_id *db, size_t *len,
                        struct hadb_error *err)
{
    const uint8_t *p = bytes.data;
    if (bytes.len < HADB_TERMS_HEADER_BYTES + 4 || memcmp(p, TERMS_MAGIC, 8) != 0) {
        return hadb_fail(err, HADB_ECORRUPT, "not a term table");
    }
    if (hadb_get_u32(p + bytes.len - 4) != hadb_crc32c(0, p, bytes.len - 4)) {
        return hadb_fail(err, HADB_ECORRUPT, "term table fails its checksum");
    }
    if (hadb_get_u32(p + 8) != TERMS_VERSION) {
        return hadb_fail(err, HADB_EVERSION, "term table of version %" PRIu32, hadb_get_u32(p + 8));
    }
    *len = hadb_get_u32(p + 12);
    if (*len > HADB_TERMS_MAX ||
        bytes.len != HADB_TERMS_HEADER_BYTES + *len * HADB_TERMS_RECORD_BYTES + 4) {
        return hadb_fail(err, HADB_ECORRUPT, "term table has a wrong length");
    }
    if (memcmp(p + 16, db->b, 16) != 0) {
        return hadb_fail(err, HADB_ECORRUPT, "term table of another database");
    }
    return 0;
}

/* A text of a field of @field_bytes, zero behind it. */
static bool text_get(const uint8_t *field, size_t field_bytes, char *out, size_t len_max)
{
    size_t len = strnlen((const char *)field, field_bytes);
    for (size_t i = len; i < field_bytes; i++) {
        if (field[i] != 0) {
            return false;
        }
    }
    if (len > len_max) {
        return false;
    }
    memcpy(out, field, len);
    out[len] = '\0';
    return true;
}

/* Whom the last term names; "" = nobody. */
static bool next_get(const uint8_t *p, struct hadb_terms *terms)
{
    return text_get(p + 40, NAME_BYTES, terms->next_name, HADB_NAME_BYTES_MAX) &&
           text_get(p + 40 + NAME_BYTES, ADDRESS_BYTES, terms->next_address,
                    HADB_ADDRESS_BYTES_MAX) &&
           (terms->next_name[0] == '\0' || hadb_name_valid(terms->next_name)) &&
           hadb_address_valid(terms->next_address);
}

int hadb_terms_decode(struct hadb_slice bytes, const struct hadb_id *db, struct hadb_terms *out,
                      struct hadb_error *err)
{
    size_t len = 0;
    int r = header_check(bytes, db, &len, err);
    if (r < 0) {
        return r;
    }
    const uint8_t *p = bytes.data;
    struct hadb_terms terms = {.db = *db, .floor = hadb_get_u64(p + 32), .len = len, .cap = len};
    if (!next_get(p, &terms)) {
        return hadb_fail(err, HADB_ECORRUPT, "term table with a bad name or address");
    }
    terms.items = hadb_malloc(HADB_MAX(len, 1u) * sizeof *terms.items);
    if (!terms.items) {
        return hadb_fail_nomem(err);
    }
    for (size_t i = 0; i < len; i++) {
        record_get(p + HADB_TERMS_HEADER_BYTES + i * HADB_TERMS_RECORD_BYTES, &terms.items[i]);
        if (i > 0 && terms.items[i].term != terms.items[i - 1].term + 1) {
            hadb_terms_deinit(&terms);
            return hadb_fail(err, HADB_ECORRUPT, "term table is out of order");
        }
    }
    *out = terms;
    return 0;
}

int hadb_terms_load(const struct hadb_fs *fs, const char *path, const struct hadb_id *db,
                    struct hadb_terms *out, struct hadb_error *err)
{
    struct hadb_buf bytes HADB_CLEANUP(hadb_buf_deinit) = {0};
    size_t bytes_max =
        HADB_TERMS_HEADER_BYTES + (size_t)HADB_TERMS_MAX * HADB_TERMS_RECORD_BYTES + 4;
    int r = hadb_fs_read_file(fs, path, bytes_max, &bytes, err);
    if (r == HADB_ABSENT) {
        *out = (struct hadb_terms){.db = *db};
        return 0;
    }
    if (r < 0) {
        return r;
    }
    return hadb_wrap(err, hadb_terms_decode(hadb_buf_slice(&bytes), db, out, err), "%s", path);
}

int hadb_terms_store(const struct hadb_fs *fs, const char *path, const struct hadb_terms *terms,
                     struct hadb_error *err)
{
    struct hadb_buf bytes HADB_CLEANUP(hadb_buf_deinit) = {0};
    int r = hadb_terms_encode(terms, &bytes, err);
    if (r < 0) {
        return r;
    }
    return hadb_fs_replace_file(fs, path, hadb_buf_slice(&bytes), err);
}
