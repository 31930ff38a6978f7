/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leader's process is killed with SIGKILL; the follower takes over, and no acknowledged write is missing.
 * The parent process is the node "parent"; a child process is the node "child", which leads first.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hadb/hadb.h>

#define WRITES 50

static int open_node(const char *name, const char *folder, struct hadb_node **node,
                     struct hadb_db **db, struct hadb_error *err)
{
    char data[512], storage[512], lease[512];
    snprintf(data, sizeof data, "%s/%s", folder, name);
    snprintf(storage, sizeof storage, "file://%s/storage", folder);
    snprintf(lease, sizeof lease, "file://%s/lease", folder);
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    options.name = name;
    options.data_dir = data;
    options.storage_url = storage;
    options.lease_url = lease;
    options.listen = "127.0.0.1:0";
    options.ttl_ms = 1000;
    int r = hadb_node_open(&options, node, err);
    r = r != 0 ? r : hadb_db_open(*node, "demo", NULL, db, err);
    return r != 0 ? r : hadb_db_wait_ready(*db, 10000, err);
}

/* The child leads until it is killed. */
static int run_child(const char *folder, int ready)
{
    struct hadb_error err = {0};
    struct hadb_node *node = NULL;
    struct hadb_db *db = NULL;
    if (open_node("child", folder, &node, &db, &err) != 0) {
        fprintf(stderr, "child: %s\n", err.message);
        return 1;
    }
    if (write(ready, "r", 1) != 1) {
        return 1;
    }
    for (;;) {
        pause();
    }
}

static int write_one(struct hadb_db *db, int n)
{
    char key[32];
    struct hadb_error err = {0};
    snprintf(key, sizeof key, "record-%04d", n);
    /* If an answer gets lost with the leader, the library asks again with the same request id. */
    int r = hadb_kv_put(db, (struct hadb_slice){key, strlen(key)}, (struct hadb_slice){"x", 1},
                        NULL, NULL, &err);
    if (r != 0) {
        fprintf(stderr, "%s: %s\n", key, err.message);
    }
    return r;
}

int main(int argc, char **argv)
{
    int ready[2];
    char byte;
    if (argc != 2 || pipe(ready) != 0) {
        fprintf(stderr, "usage: failover FOLDER\n");
        return 2;
    }
    pid_t child = fork(); /* before this process has any thread */
    if (child == 0) {
        _exit(run_child(argv[1], ready[1]));
    }
    struct hadb_error err = {0};
    struct hadb_node *node = NULL;
    struct hadb_db *db = NULL;
    close(ready[1]);
    int r = child > 0 && read(ready[0], &byte, 1) == 1 ? 0 : 1;
    r = r != 0 ? r : open_node("parent", argv[1], &node, &db, &err);
    int acknowledged = 0;
    for (; r == 0 && acknowledged < WRITES; acknowledged++) {
        if (acknowledged == WRITES / 2) {
            kill(child, SIGKILL); /* the leader, in the middle of everything */
        }
        r = write_one(db, acknowledged);
    }
    struct hadb_kv_items items = {0};
    struct hadb_range all = {0};
    r = r != 0 ? r : hadb_kv_scan(db, &all, 0, NULL, &items, NULL, &err);
    bool leads = db != NULL && hadb_db_role(db) == HADB_ROLE_LEADER;
    printf("%d writes acknowledged, %zu found, this node %s\n", acknowledged, items.len,
           leads ? "leads now" : "does not lead");
    bool well = r == 0 && items.len == WRITES && leads;
    hadb_kv_items_deinit(&items);
    hadb_node_close(node, 2000);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return well ? 0 : 1;
}
