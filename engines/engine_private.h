/* SPDX-License-Identifier: Apache-2.0 */
/* What the engines show to the factory: one method table each. Any thread. */
#ifndef HADB_ENGINES_ENGINE_PRIVATE_H
#define HADB_ENGINES_ENGINE_PRIVATE_H
#include "hadb/engine.h"

extern const struct hadb_engine_ops hadb__engine_kv_ops;
extern const struct hadb_engine_ops hadb__engine_memory_ops;

/* True when a method table offers all that abi 1 requires. */
bool hadb__engine_ops_complete(const struct hadb_engine_ops *ops);
#endif
