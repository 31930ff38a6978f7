/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns request counters.
 *
 * Thread: any. The fields are independent statistics that order nothing, so every access is a relaxed
 * atomic. Invariant: each finished request adds exactly one to one of four numbers. No failure modes.
 */
#include "storage/counters.h"

#include "base/util.h"

static const struct {
    const char *name;
    bool writes;
} ops[HADB_STORAGE_OP_LEN] = {
    [HADB_STORAGE_OP_GET] = {"get", false},
    [HADB_STORAGE_OP_GET_RANGE] = {"get_range", false},
    [HADB_STORAGE_OP_HEAD] = {"head", false},
    [HADB_STORAGE_OP_CREATE] = {"create", true},
    [HADB_STORAGE_OP_REPLACE] = {"replace", true},
    [HADB_STORAGE_OP_LIST] = {"list", false},
    [HADB_STORAGE_OP_DELETE_MANY] = {"delete_many", true},
};

const char *hadb_storage_op_name(enum hadb_storage_op op)
{
    HADB_ASSERT(op < HADB_STORAGE_OP_LEN);
    return ops[op].name;
}

bool hadb_storage_op_writes(enum hadb_storage_op op)
{
    HADB_ASSERT(op < HADB_STORAGE_OP_LEN);
    return ops[op].writes;
}

static void add(uint64_t *field, uint64_t n)
{
    __atomic_fetch_add(field, n, __ATOMIC_RELAXED);
}

void hadb_storage_counters_add(struct hadb_storage_counters *live, enum hadb_storage_op op, int r,
                               uint64_t bytes, uint64_t took_us)
{
    HADB_ASSERT(op < HADB_STORAGE_OP_LEN);
    struct hadb_storage_op_counters *c = &live->op[op];
    add(r == 0                ? &c->done
        : r > 0               ? &c->outcomes
        : r == HADB_ETIMEDOUT ? &c->unknown
                              : &c->failed,
        1);
    add(&c->bytes, r == 0 ? bytes : 0);
    add(&c->took_us, took_us);
}

void hadb_storage_counters_read(const struct hadb_storage_counters *live,
                                struct hadb_storage_counters *out)
{
    for (size_t i = 0; i < HADB_STORAGE_OP_LEN; i++) {
        const struct hadb_storage_op_counters *c = &live->op[i];
        out->op[i] = (struct hadb_storage_op_counters){
            .done = __atomic_load_n(&c->done, __ATOMIC_RELAXED),
            .outcomes = __atomic_load_n(&c->outcomes, __ATOMIC_RELAXED),
            .unknown = __atomic_load_n(&c->unknown, __ATOMIC_RELAXED),
            .failed = __atomic_load_n(&c->failed, __ATOMIC_RELAXED),
            .bytes = __atomic_load_n(&c->bytes, __ATOMIC_RELAXED),
            .took_us = __atomic_load_n(&c->took_us, __ATOMIC_RELAXED),
        };
    }
}

uint64_t hadb_storage_counters_op(const struct hadb_storage_counters *read, enum hadb_storage_op op)
{
    HADB_ASSERT(op < HADB_STORAGE_OP_LEN);
    const struct hadb_storage_op_counters *c = &read->op[op];
    return c->done + c->outcomes + c->unknown + c->failed;
}

uint64_t hadb_storage_counters_total(const struct hadb_storage_counters *read)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < HADB_STORAGE_OP_LEN; i++) {
        sum += hadb_storage_counters_op(read, (enum hadb_storage_op)i);
    }
    return sum;
}
