/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Do storage and lease store answer this node? What status, /readyz, /healthz and the log say about it. Nothing is
 * decided here: the machines of core/ hear of every single answer by themselves.
 *
 * Loop thread only.
 */
#ifndef HADB_NODE_OUTAGE_H
#define HADB_NODE_OUTAGE_H

#include "node/loop.h"
#include "node/pool.h"

#define HADB_OUTAGE_ASK_MS_MIN 250u
#define HADB_OUTAGE_ASK_MS_MAX 2000u

struct hadb_node;

/* One store that fails. */
struct hadb_outage {
    struct hadb_error why; /* of the last request that failed; code 0 = the store answers */
    uint64_t since_ms;
    uint64_t told; /* bit -code: this outage's log has a line with that code */
    bool writes;   /* a write failed: an answer to a read does not end it */
};

struct hadb_outages {
    struct hadb_outage storage, lease;
    struct hadb_timer timer; /* asks storage while nobody else does */
    uint32_t wait_ms;
    struct hadb_job job;
    bool busy;
    struct hadb_cancel cancel; /* atomic */
    bool job_writes;           /* job: in */
    bool job_wrote;            /* job: out */
    struct hadb_error job_err; /* job: out */
    int job_r;                 /* job: out */
};

int hadb__outages_start(struct hadb_node *node, struct hadb_error *err);
void hadb__outages_stop(struct hadb_node *node);

/* How a request ended: @r >= 0 or a refusal that only the store itself can give is an answer. */
void hadb__storage_said(struct hadb_node *node, bool write, int r, const struct hadb_error *err);
void hadb__lease_said(struct hadb_node *node, int r, const struct hadb_error *err);

/* "storage URL fails for 12 s: …" into @out; false when it does not. */
bool hadb__storage_fails(struct hadb_node *node, char *out, size_t cap);
bool hadb__lease_fails(struct hadb_node *node, char *out, size_t cap);
#endif
