/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the seed program share. */
#ifndef HADB_FUZZ_SEED_H
#define HADB_FUZZ_SEED_H

#include "base/buf.h"

/* Writes one input. */
void seed_put(const char *target, const char *name, struct hadb_slice data);
void seed_put_text(const char *target, const char *name, const char *text);

void seed_above(void); /* rooms above changeset/ */
void seed_disk(void);  /* what lies in a node's folders */
#endif
