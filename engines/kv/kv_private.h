/* SPDX-License-Identifier: Apache-2.0 */
/* The kv engine: state in memory, log on disk. Threads: see both. */
#ifndef HADB_ENGINES_KV_PRIVATE_H
#define HADB_ENGINES_KV_PRIVATE_H
#include "engines/index/state_private.h"
#include "engines/kv/log_private.h"

struct kv {
    struct hadb__state state;
    struct hadb__kv_log log;
    uint32_t sync_every_ms; /* const after open */
};
#endif
