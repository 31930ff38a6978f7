/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine suites share: one engine in a private folder, and short words for data. */
#ifndef HADB_TESTS_ENGINE_RIG_H
#define HADB_TESTS_ENGINE_RIG_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "hadb/engine.h"
#include "tests/support/support.h"

struct rig {
    const char *name; /* of the engine */
    bool durable;     /* it survives reopen */
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_engine_options options;
    struct hadb_engine engine;
    uint64_t term; /* of the next transaction */
};

/* The engine that this run is about. */
extern const char *rig_engine;

int rig_setup(void **state);
int rig_teardown(void **state);
void rig_open(struct rig *rig);
void rig_close(struct rig *rig);
/* Closes and opens a durable engine; nothing for a volatile one. */
void rig_reopen(struct rig *rig);

/* Appends transaction @txid to @out. @words: "key=value" puts, "-key" deletes, split by spaces. */
void rig_encode(const struct rig *rig, hadb_txid txid, const char *words, struct hadb_buf *out);
/* Applies @words as the next transaction. */
void rig_apply(struct rig *rig, const char *words);
void rig_mark(struct rig *rig, hadb_txid txid);
struct hadb_pos rig_pos(hadb_txid txid); /* slot = txid, term 1, a hash made of it */
/* All keys of @view (NULL = now) are exactly @words, "key=value" in order. */
void rig_expect(struct rig *rig, void *view, const char *words);
/* As rig_expect for a range. */
void rig_expect_range(struct rig *rig, void *view, const struct hadb_range *range,
                      const char *words);
void rig_expect_position(struct rig *rig, hadb_txid mark, hadb_txid last);

int suite_reading(void);
int suite_history(void);
int suite_ingest(void);
int suite_limits(void);
int suite_model(void);
int suite_threads(void);
#endif
