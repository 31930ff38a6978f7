/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the storage keep the promises that leading rests on (4.13)? Asked when a node is opened, then every
 * probe_every_ms while it leads something; what the answer means for a database is the machine's to say (EV_PROBE).
 *
 * Loop thread only, unless marked.
 */
#ifndef HADB_NODE_PROBE_H
#define HADB_NODE_PROBE_H

#include "node/loop.h"
#include "node/pool.h"

#define HADB_PROBE_EVERY_MS_DEFAULT 86400000u

struct hadb_node;
struct hadb_call;
struct hadb_probe_result;

struct hadb_prober {
    uint32_t every_ms; /* const after open */
    bool may_lead;
    struct hadb_error why; /* when it may not */
    bool known;            /* there is a verdict; else storage has not answered yet */
    unsigned failures;     /* in a row without an answer */
    struct hadb_timer timer;
    struct hadb_job job;
    bool busy;
    struct hadb_cancel cancel; /* atomic */
    bool anew;                 /* job: run it, whatever was kept */
    bool verdict;              /* out of the job */
    struct hadb_error text;    /* out: of a verdict that is no, or of the failure */
    int r;                     /* out */
};

/* Blocks; the opener. A storage that does not answer is asked again later; one that cannot be used fails. */
int hadb__probe_at_open(struct hadb_node *node, struct hadb_error *err);
int hadb__probe_start(struct hadb_node *node, struct hadb_error *err);
void hadb__probe_stop(struct hadb_node *node);
/* The verdict that is kept in storage, read or written. A worker. */
int hadb__probe_kept(struct hadb_node *node, const struct hadb_call *call,
                     struct hadb_probe_result *result, struct hadb_error *err);
int hadb__probe_keep(struct hadb_node *node, const struct hadb_call *call,
                     const struct hadb_probe_result *result, struct hadb_error *err);
#endif
