/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key spaces inside an engine, and what their values look like. All integers little-endian.
 *
 *   'r' + id   0  1  version, 1             'h'   0  1  version, 1
 *              1  1  request type                 1  7  zero
 *              2  2  zero                         8  8  oldest request time that is accepted, Unix ms
 *              4  4  outcome, 0 = done           16  8  number of results kept
 *              8  8  digest of the request
 *             16 16  HADB_NOT_MET only: version }
 *             32  8  that the key had, index of }
 *                    the operation              }
 *
 * Outcomes are 0 and HADB_NOT_MET. The version of an 'r' key is the version that the request gave to what it wrote.
 */
#ifndef HADB_REPLICATORS_SPACE_H
#define HADB_REPLICATORS_SPACE_H
#include <assert.h>

#include "base/buf.h"
#include "hadb/executor.h"

#define HADB__RESULT_KEY_BYTES 17u
#define HADB__RESULT_VERSION 1u
#define HADB__HORIZON_BYTES 24u
#define HADB__HORIZON_VERSION 1u

enum {
    HADB__RESULT_TYPE_AT = 1,
    HADB__RESULT_OUTCOME_AT = 4,
    HADB__RESULT_DIGEST_AT = 8,
    HADB__RESULT_TERM_AT = 16,
    HADB__RESULT_TXID_AT = 24,
    HADB__RESULT_OP_AT = 32,
    HADB__HORIZON_TIME_AT = 8,
    HADB__HORIZON_LEN_AT = 16,
};
static_assert(HADB__RESULT_DIGEST_AT + 8 == HADB_RESULT_BYTES, "result record");
static_assert(HADB__RESULT_OP_AT + 8 == HADB_RESULT_REFUSED_BYTES, "record of a refusal");
static_assert(HADB__HORIZON_LEN_AT + 8 == HADB__HORIZON_BYTES, "horizon record");
static_assert(HADB_KEY_BYTES_MAX + 1 <= HADB_ENGINE_KEY_BYTES_MAX, "room for the space byte");

static inline void hadb__result_key(const struct hadb_id *id, uint8_t out[HADB__RESULT_KEY_BYTES])
{
    out[0] = HADB_SPACE_RESULT;
    memcpy(out + 1, id->b, sizeof(id->b));
}

/* The request id in a key of the result space. */
static inline bool hadb__result_key_id(struct hadb_slice key, struct hadb_id *out)
{
    if (key.len != HADB__RESULT_KEY_BYTES || *(const uint8_t *)key.data != HADB_SPACE_RESULT) {
        return false;
    }
    memcpy(out->b, (const uint8_t *)key.data + 1, sizeof(out->b));
    return true;
}
#endif
