/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8: the asynchronous path of storage on the loop.
 *
 * Thread: the loop.
 * Invariants: requests are driven from here until the last database has stopped; the descriptor is let go before storage is
 * closed.
 * Happy path: readable -> drive -> done of whoever submitted.
 * Failure modes: no such path, or no descriptor for it: requests go to the workers, as those of every blocking store.
 */
#include "node/loop_private.h"
#include "node/node_private.h"

struct hadb_store_watch {
    uv_poll_t poll;
    struct hadb_node *node;
};

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct hadb_store_watch *watch = poll->data;
    (void)status;
    (void)events;
    hadb_storage_drive(&watch->node->storage);
}

static void on_closed(uv_handle_t *handle)
{
    hadb_free(handle->data);
}

int hadb__store_start(struct hadb_node *node, struct hadb_error *err)
{
    int fd = hadb_storage_fd(&node->storage);
    if (fd < 0) {
        return 0;
    }
    struct hadb_store_watch *watch = hadb_calloc(1, sizeof *watch);
    if (!watch) {
        return hadb_fail_nomem(err);
    }
    int r = uv_poll_init(hadb__loop_uv(node->loop), &watch->poll, fd);
    if (r != 0) {
        hadb_free(watch);
        return hadb_fail_errno(err, -r, "watch the requests to storage");
    }
    watch->node = node;
    watch->poll.data = watch;
    r = uv_poll_start(&watch->poll, UV_READABLE, on_readable);
    HADB_ASSERT(r == 0);
    node->store_watch = watch;
    return 0;
}

void hadb__store_stop(struct hadb_node *node)
{
    if (node->store_watch) {
        uv_close((uv_handle_t *)&node->store_watch->poll, on_closed);
        node->store_watch = NULL;
    }
}

int hadb__store_submit(struct hadb_node *node, struct hadb_storage_io *io, struct hadb_error *err)
{
    return hadb_storage_submit(&node->storage, io, err);
}
