/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two nodes in one process share one storage: what one acknowledges, the other reads.
 * In real life each node is its own process on its own host; only the URLs differ.
 */
#include <stdio.h>
#include <string.h>

#include <hadb/hadb.h>

static struct hadb_slice text(const char *s)
{
    return (struct hadb_slice){s, strlen(s)};
}

struct site {
    struct hadb_node *node;
    struct hadb_db *db;
};

static int open_site(struct site *site, const char *name, const char *folder)
{
    struct hadb_error err = {0};
    char data[512];
    snprintf(data, sizeof data, "%s/%s", folder, name);
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    options.name = name;
    options.data_dir = data;
    options.storage_url = "mem:two-nodes"; /* shared by all who open that name */
    options.lease_url = "mem:two-nodes";
    options.listen = "127.0.0.1:0"; /* any free port; the other node learns it by itself */
    options.ttl_ms = 1000;
    int r = hadb_node_open(&options, &site->node, &err);
    r = r != 0 ? r : hadb_db_open(site->node, "fruit", NULL, &site->db, &err);
    r = r != 0 ? r : hadb_db_wait_ready(site->db, 10000, &err);
    if (r != 0) {
        fprintf(stderr, "%s: %s\n", name, err.message);
    }
    return r;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: two_nodes FOLDER\n");
        return 2;
    }
    struct site a = {0};
    struct site b = {0};
    struct hadb_error err = {0};
    struct hadb_buf value = {0};
    int r = open_site(&a, "a", argv[1]);
    r = r != 0 ? r : open_site(&b, "b", argv[1]);

    /* Any node takes any request: the one that follows forwards this write to the leader. When the
     * call returns, the write is in storage, whatever dies next. */
    struct hadb_kv_result written = {0};
    r = r != 0 ? r : hadb_kv_put(b.db, text("apple"), text("green"), NULL, &written, &err);

    /* Everything acknowledged before this read began is visible, on any node. */
    r = r != 0 ? r : hadb_kv_get(a.db, text("apple"), NULL, &value, NULL, &err);
    if (r == 0) {
        printf("a leads: %s, b leads: %s\n", hadb_db_role(a.db) == HADB_ROLE_LEADER ? "yes" : "no",
               hadb_db_role(b.db) == HADB_ROLE_LEADER ? "yes" : "no");
        printf("apple is %.*s\n", (int)value.len, (const char *)value.data);
    } else {
        fprintf(stderr, "%s\n", err.message);
    }
    hadb_buf_deinit(&value);
    hadb_node_close(b.node, 2000); /* closes its databases too */
    hadb_node_close(a.node, 2000);
    return r != 0;
}
