/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what the doctor computes: requests and cost of a month, and the settings that fit measured latencies.
 *
 *   batches       databases × month / batch interval; each: 1 PUT, and 1 GET when it is swept (small entries are looked at)
 *   snapshots     batches / snapshot slots; each HADB_DOCTOR_SNAPSHOT_PUTS and _GETS
 *   listings      1 PUT for 1000 batches, when they are swept
 *   daily probe   nodes × 30 × HADB_DOCTOR_PROBE_PUTS and _GETS
 *   renewals      nodes × month / (ttl / 3), each 1 PUT where the lease store is priced
 *
 * Thread: any; functions of their arguments. Failure modes: none; sums saturate.
 */
#include "base/util.h"
#include "node/doctor.h"

#define STEP_MS 500u
#define LIST_KEYS 1000u
#define SHARE 5u         /* a renewal has ttl/5 (core/hint.c) */
#define SPARE 4u         /* recommended: p99 is a quarter of that */
#define WINDOW_US 20000u /* of a create that another slot in flight hides */

static uint64_t add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t mul(uint64_t a, uint64_t b)
{
    return b != 0 && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

static uint64_t cost(uint64_t puts, uint64_t gets)
{
    return add(mul(puts, HADB_PRICE_PUT_NUSD), mul(gets, HADB_PRICE_GET_NUSD));
}

void hadb__doctor_estimate(const struct hadb_doctor_workload *workload, bool storage_priced,
                           bool lease_priced, struct hadb_doctor_estimate *out)
{
    struct hadb_doctor_workload w = *workload;
    HADB_ASSERT(w.ttl_ms > 0);
    w.databases = w.databases ? w.databases : 1;
    w.nodes = w.nodes ? w.nodes : 3;
    w.batch_interval_ms = w.batch_interval_ms ? w.batch_interval_ms : 1000;
    w.snapshot_slots = w.snapshot_slots ? w.snapshot_slots : 4096;
    struct hadb_doctor_estimate e = {.workload = w};
    uint64_t probes = mul(w.nodes, 30);
    e.batches = w.databases * HADB_DOCTOR_MONTH_MS / w.batch_interval_ms;
    e.snapshots = e.batches / w.snapshot_slots;
    e.renewals = w.nodes * HADB_DOCTOR_MONTH_MS / HADB_MAX(w.ttl_ms / 3, 1u);
    e.storage_puts =
        add(add(e.batches, e.batches / LIST_KEYS),
            add(mul(e.snapshots, HADB_DOCTOR_SNAPSHOT_PUTS), mul(probes, HADB_DOCTOR_PROBE_PUTS)));
    e.storage_gets = add(add(e.batches, mul(e.snapshots, HADB_DOCTOR_SNAPSHOT_GETS)),
                         mul(probes, HADB_DOCTOR_PROBE_GETS));
    e.lease_puts = e.renewals;
    e.storage_cost_nusd = storage_priced ? cost(e.storage_puts, e.storage_gets) : 0;
    e.lease_cost_nusd = lease_priced ? cost(e.lease_puts, 0) : 0;
    *out = e;
}

static uint32_t round_up(uint64_t ms)
{
    uint64_t steps = (ms + STEP_MS - 1) / STEP_MS;
    uint64_t rounded = HADB_MAX(steps * STEP_MS, (uint64_t)HADB_DOCTOR_TTL_MS_MIN);
    return (uint32_t)HADB_MIN(rounded, (uint64_t)HADB_DOCTOR_TTL_MS_MAX);
}

uint32_t hadb__doctor_ttl_ms_min(uint32_t p99_us)
{
    return round_up(((uint64_t)p99_us * SHARE + 999) / 1000);
}

uint32_t hadb__doctor_ttl_ms(uint32_t p99_us, bool priced)
{
    uint32_t ms = round_up(((uint64_t)p99_us * SHARE * SPARE + 999) / 1000);
    return HADB_MAX(ms, priced ? HADB_DOCTOR_TTL_MS_PRICED : HADB_DOCTOR_TTL_MS_USUAL);
}

uint32_t hadb__doctor_window(uint32_t p50_us)
{
    return HADB_MIN(2 + p50_us / WINDOW_US, 8u);
}
