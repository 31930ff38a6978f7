/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Follow one write through the eight hops: a leader and a follower with a trace function each.
 * docs/dataflow.md tells what happens at each hop.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <hadb/hadb.h>

static struct hadb_slice text(const char *s)
{
    return (struct hadb_slice){s, strlen(s)};
}

/* The hops of the transaction that is followed, as the two nodes report them. */
static struct {
    pthread_mutex_t mutex;
    hadb_txid txid; /* 0 = not following yet */
    unsigned seen;  /* bit per hop */
} follow = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void on_trace(void *arg, const struct hadb_trace_event *event)
{
    (void)arg;
    pthread_mutex_lock(&follow.mutex);
    follow.seen |= 1u << event->hop;
    printf("hop %u %-8s term %llu slot %llu txid %llu, %llu bytes, %llu us\n", event->hop,
           event->what, (unsigned long long)event->term, (unsigned long long)event->slot,
           (unsigned long long)event->txid, (unsigned long long)event->bytes,
           (unsigned long long)event->took_us);
    pthread_mutex_unlock(&follow.mutex);
}

static int open_node(const char *name, const char *folder, const struct hadb_env *env,
                     struct hadb_node **node, struct hadb_db **db, struct hadb_error *err)
{
    char data[512];
    snprintf(data, sizeof data, "%s/%s", folder, name);
    struct hadb_node_options options = HADB_NODE_OPTIONS_INIT;
    options.name = name;
    options.data_dir = data;
    options.storage_url = "mem:eight-hops";
    options.lease_url = "mem:eight-hops";
    options.listen = "127.0.0.1:0";
    options.env = env;
    int r = hadb_node_open(&options, node, err);
    r = r != 0 ? r : hadb_db_open(*node, "demo", NULL, db, err);
    return r != 0 ? r : hadb_db_wait_ready(*db, 10000, err);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: eight_hops FOLDER\n");
        return 2;
    }
    struct hadb_env env = *hadb_env_host();
    env.trace = on_trace;
    struct hadb_error err = {0};
    struct hadb_node *leader = NULL;
    struct hadb_node *follower = NULL;
    struct hadb_db *at_leader = NULL;
    struct hadb_db *at_follower = NULL;
    int r = open_node("leader", argv[1], &env, &leader, &at_leader, &err);
    r = r != 0 ? r : open_node("follower", argv[1], &env, &follower, &at_follower, &err);

    /* Written through the follower, so that it travels the whole way. */
    struct hadb_kv_result written = {0};
    r = r != 0 ? r : hadb_kv_put(at_follower, text("hello"), text("world"), NULL, &written, &err);

    /* Reading one's own write back on the follower waits for hops 7 and 8. */
    struct hadb_kv_options own = {.bookmark = written.bookmark.s};
    struct hadb_buf value = {0};
    r = r != 0 ? r : hadb_kv_get(at_follower, text("hello"), &own, &value, NULL, &err);
    hadb_buf_deinit(&value);
    hadb_node_close(follower, 2000);
    hadb_node_close(leader, 2000);
    if (r != 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    bool all = (follow.seen & 0x1feu) == 0x1feu;
    printf("%s\n", all ? "all eight hops were seen" : "a hop is missing");
    return all ? 0 : 1;
}
