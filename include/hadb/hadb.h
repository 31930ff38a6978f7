/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Everything that is public, in the order in which a write travels (docs/dataflow.md):
 * 1 route, 2 commit, 3 capture, 4 frame, 5 ship, 6 create, 7 pull, 8 apply.
 */
#ifndef HADB_HADB_H
#define HADB_HADB_H

#include "hadb/types.h"
#include "hadb/error.h"
#include "hadb/env.h"

#include "hadb/kv.h"         /* hop 1: the way in */
#include "hadb/node.h"       /* hops 1, 5, 7: who leads, who follows */
#include "hadb/engine.h"     /* hops 2, 8: the database */
#include "hadb/storage.h"    /* hop 6: where histories live */
#include "hadb/lease.h"      /* beside the path: who seems to be alive */

#endif
