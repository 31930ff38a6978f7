/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Everything that is public, in the order in which a write travels (docs/dataflow.md):
 * 1 route, 2 commit, 3 capture, 4 frame, 5 ship, 6 create, 7 pull, 8 apply.
 */
#ifndef HADB_HADB_H
#define HADB_HADB_H

#include "hadb/env.h"
#include "hadb/error.h"
#include "hadb/types.h"

#include "hadb/changeset.h"  /* hop 4: what an entry looks like */
#include "hadb/doctor.h"     /* without any node: are the stores fit? */
#include "hadb/engine.h"     /* hops 2, 8: the database */
#include "hadb/executor.h"   /* hop 2: a request becomes a transaction */
#include "hadb/kv.h"         /* hop 1: the way in */
#include "hadb/lease.h"      /* beside the path: who seems to be alive */
#include "hadb/node.h"       /* hops 1, 5, 7: who leads, who follows */
#include "hadb/replicator.h" /* hops 3, 8: how its changes travel */
#include "hadb/restore.h"    /* without any node: what storage gives back */
#include "hadb/storage.h"    /* hop 6: where histories live */

#endif
