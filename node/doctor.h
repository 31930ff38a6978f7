/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the doctor share: the estimate, the recommendations, the words for each check. Any thread. */
#ifndef HADB_NODE_DOCTOR_H
#define HADB_NODE_DOCTOR_H
#include "hadb/doctor.h"
#include "lease/probe.h"
#include "storage/probe.h"

#define HADB_DOCTOR_MONTH_MS (30u * 86400u * 1000ull)
/* Requests of the probe that a leading node repeats every day (HADB_PROBE_OPTIONS_FULL), with its cleaning up. */
#define HADB_DOCTOR_PROBE_PUTS 1830u
#define HADB_DOCTOR_PROBE_GETS 545u
/* Of one snapshot of one part: parts and manifest; the manifest again for the sweep; listings. Reads: manifest, read back. */
#define HADB_DOCTOR_SNAPSHOT_PUTS 5u
#define HADB_DOCTOR_SNAPSHOT_GETS 3u
#define HADB_DOCTOR_TTL_MS_MIN 1000u
#define HADB_DOCTOR_TTL_MS_USUAL \
    2000u /* less is not recommended: a pause of a machine is no death */
#define HADB_DOCTOR_TTL_MS_PRICED 5000u /* … where renewals cost money */
#define HADB_DOCTOR_TTL_MS_MAX 600000u

/*
 * Requests of a month. @workload may have zeros, but no zero ttl_ms. @storage_priced, @lease_priced: requests to
 * them are charged for. Numbers saturate instead of wrapping around.
 */
void hadb__doctor_estimate(const struct hadb_doctor_workload *workload, bool storage_priced,
                           bool lease_priced, struct hadb_doctor_estimate *out);

/* The shortest TTL, in steps of 500 ms, of which a fifth is not less than @p99_us: so long a renewal may take. */
uint32_t hadb__doctor_ttl_ms_min(uint32_t p99_us);
/* What to use: four times that, and not below HADB_DOCTOR_TTL_MS_USUAL or _PRICED. */
uint32_t hadb__doctor_ttl_ms(uint32_t p99_us, bool priced);
/* Slots in flight that keep a writer busy when a create takes @p50_us: 2 to 8. */
uint32_t hadb__doctor_window(uint32_t p50_us);

struct hadb__doctor_words {
    const char *means, *remedy;
};
/* Of a failed check. */
const struct hadb__doctor_words *hadb__doctor_storage_words(enum hadb_probe_check check);
const struct hadb__doctor_words *hadb__doctor_lease_words(enum hadb_lease_probe_check check);
#endif
