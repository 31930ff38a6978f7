/* SPDX-License-Identifier: Apache-2.0 */
/* A cluster of real `hadb node` processes below one folder: start, fault, wait, look. Main thread, unless marked. */
#ifndef HADB_BENCH_CLUSTER_H
#define HADB_BENCH_CLUSTER_H
#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "bench/http.h"

#define BENCH_NODES_MAX 7
#define BENCH_DB "bench"

struct bench_options {
    const char *program; /* path of hadb */
    const char *store;   /* URL; NULL = the folder "store" below the bench's own */
    const char *lease;   /* likewise */
    const char *engine;  /* "kv" */
    const char *ack;     /* of the database: "durable" */
    unsigned nodes, writers, ttl_ms, count, latency_ms;
    unsigned think_us; /* a writer's pause after each answer */
    const char *fault; /* kill, pause, vanish */
    bool json, keep, verbose;
    bool spoil; /* test of the check: lose one acknowledged write and repeat another */
};

struct bench_node {
    char name[8];
    char address[64]; /* const after start */
    int port;
    pid_t pid; /* 0 = not running */
    bool stopped;
    int netns; /* descriptor of its network namespace; -1 = the bench's own */
    struct bench_http http;
};

struct bench_cluster {
    const struct bench_options *options;
    char folder[256];
    char token_file[300];
    char token[64];      /* "" = none */
    char *store, *lease; /* URLs as the nodes reach them; NULL = a folder */
    struct bench_node nodes[BENCH_NODES_MAX];
    unsigned len;
    int leader; /* atomic: index of the last one known, -1 = none; writers read it */
};

/* What one node says of the database. */
struct bench_view {
    bool answered;
    char role[16];
    char leader[80];
    char chain[80];
    uint64_t term, durable_txid, applied_txid;
};

/* Makes the folder and starts all nodes; ends the program when one does not come up. */
void bench_cluster_start(struct bench_cluster *cluster, const struct bench_options *options);
/* Stops what runs (SIGKILL), removes the folder unless it is kept. Also runs when the program ends otherwise. */
void bench_cluster_stop(struct bench_cluster *cluster);

void bench_node_start(struct bench_cluster *cluster, unsigned index);
void bench_node_kill(struct bench_cluster *cluster, unsigned index); /* SIGKILL, and reaps it */
void bench_node_pause(struct bench_cluster *cluster, unsigned index);
void bench_node_wake(struct bench_cluster *cluster, unsigned index);

void bench_node_view(struct bench_cluster *cluster, unsigned index, uint64_t timeout_ms,
                     struct bench_view *out);
/* Waits until one node leads, all others follow it in the same term, and all have applied what was durable when the
 * leader was asked. Returns the leader's index and term; ends the program after @timeout_ms. */
unsigned bench_cluster_settle(struct bench_cluster *cluster, uint64_t timeout_ms, uint64_t *term);
/* As settle, for writers at rest: also equal positions and chain hashes, which it returns (80 bytes). */
void bench_cluster_agree(struct bench_cluster *cluster, uint64_t timeout_ms, char *chain);
/* bench_die with the folder's name, and keeps the folder. */
void bench_cluster_fail(struct bench_cluster *cluster, const char *fmt, ...)
    __attribute__((format(printf, 2, 3), noreturn));
/* Runs a program and waits; true when it exits with 0. */
bool bench_run(const char *const argv[], bool quiet);
void bench_remove_folder(const char *path);
#endif
