/* SPDX-License-Identifier: Apache-2.0 */
/* For the files of node/ that put handles of their own on the loop. Loop thread only. */
#ifndef HADB_NODE_LOOP_PRIVATE_H
#define HADB_NODE_LOOP_PRIVATE_H
#include <uv.h>

#include "node/loop.h"

uv_loop_t *hadb__loop_uv(struct hadb_loop *loop);
#endif
