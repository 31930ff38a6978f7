/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The factory of engines, the only file that names its siblings. Any thread; nothing is kept. A table that
 * misses a required method is refused here, when it is attached, not when the method is called.
 */
#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "engines/engine_private.h"

static const struct hadb_engine_ops *const engines[] = {&hadb__engine_kv_ops,
                                                        &hadb__engine_memory_ops};

static const struct hadb_engine_ops *find(const char *name)
{
    for (size_t i = 0; i < HADB_LEN(engines); i++) {
        if (strcmp(engines[i]->name, name) == 0) {
            return engines[i];
        }
    }
    return NULL;
}

int hadb_engine_check(const char *name, struct hadb_error *err)
{
    if (!name) {
        return hadb_fail_misuse(err, __func__);
    }
    return find(name) ? 0
                      : hadb_fail(err, HADB_ENOTSUP,
                                  "unknown engine \"%.64s\"; this build has kv and memory", name);
}

int hadb_engine_open(const char *name, const char *path, const struct hadb_engine_options *options,
                     const struct hadb_env *env, struct hadb_engine *out, struct hadb_error *err)
{
    if (!name || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    static const struct hadb_engine_options defaults;
    int r = hadb_engine_check(name, err);
    if (r < 0) {
        return r;
    }
    const struct hadb_engine_ops *ops = find(name);
    HADB_ASSERT(hadb__engine_ops_complete(ops));
    void *self = NULL;
    r = ops->open(path, options ? options : &defaults, hadb_env_or_host(env), &self, err);
    HADB_ASSERT(r <= 0);
    if (r == 0) {
        *out = (struct hadb_engine){.ops = ops, .self = self};
    }
    return r;
}
