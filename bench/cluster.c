/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cluster under test: one `hadb node` process per node, in its own folder, with a local folder as storage and a
 * file lease unless told otherwise. Faults are what the name says: real signals to real processes.
 *
 * Thread: the main one; only nodes[].address, token and (atomic) leader are read by others.
 * Invariant: only processes that were started here are ever signalled; each dies with the bench (PDEATHSIG).
 * Failure: what does not happen in time ends the program, keeps the folder with the nodes' logs and names it.
 */
#include "bench/cluster.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/netns.h"
#include "bench/stats.h"

#define START_MS_MAX 20000u
#define PORT_FIRST 20000 /* below the range that outgoing connections use */
#define PORT_LAST 29999

extern char **environ;
static struct bench_cluster *running; /* for the end of the program */

bool bench_run(const char *const argv[], bool quiet)
{
    pid_t pid;
    int status = 1;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (quiet) {
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    }
    int r = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return r == 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st, (void)type, (void)where;
    remove(path);
    return 0;
}

void bench_remove_folder(const char *path)
{
    nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

static void end_nodes(struct bench_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->len; i++) {
        if (cluster->nodes[i].pid > 0) {
            bench_node_kill(cluster, i);
        }
    }
}

static void at_exit(void)
{
    if (running != NULL) {
        end_nodes(running);
    }
}

/* Not async-signal-safe by the book, but the program ends here in any case, and nobody else would clean up. */
static void on_signal(int number)
{
    signal(number, SIG_DFL);
    if (running != NULL) {
        end_nodes(running);
        if (!running->options->keep) {
            bench_remove_folder(running->folder);
        }
    }
    bench_netns_close();
    raise(number);
}

void bench_cluster_fail(struct bench_cluster *cluster, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    bench_die("%s; logs are in %s", text, cluster->folder);
}

/* A port that nobody listens on right now. */
static int free_port(void)
{
    for (int tries = 0; tries < 1000; tries++) {
        int port = (int)bench_random(PORT_FIRST, PORT_LAST);
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0;
        if (fd >= 0) {
            close(fd);
        }
        if (ok) {
            return port;
        }
    }
    bench_die("no free port between %d and %d", PORT_FIRST, PORT_LAST);
}

static void exec_node(struct bench_cluster *cluster, struct bench_node *node, int out, int log)
{
    const struct bench_options *o = cluster->options;
    char data[300], store[400], lease[400], ttl[16], db[128];
    snprintf(data, sizeof data, "%s/%s", cluster->folder, node->name);
    snprintf(store, sizeof store, "file://%s/store", cluster->folder);
    snprintf(lease, sizeof lease, "file://%s/lease", cluster->folder);
    snprintf(ttl, sizeof ttl, "%u", o->ttl_ms);
    snprintf(db, sizeof db, "%s=%s,ack=%s%s", BENCH_DB, o->engine, o->ack,
             cluster->len == 1 ? ",no-snapshots" : "");
    const char *argv[32] = {o->program, "node",
                            "--name",   node->name,
                            "--data",   data,
                            "--store",  cluster->store ? cluster->store : store,
                            "--lease",  cluster->lease ? cluster->lease : lease,
                            "--listen", node->address,
                            "--ttl-ms", ttl,
                            "--db",     db};
    size_t len = 16;
    if (cluster->token[0] != '\0') {
        argv[len++] = "--token-file";
        argv[len++] = cluster->token_file;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (node->netns >= 0 && setns(node->netns, CLONE_NEWNET) != 0) {
        _exit(126);
    }
    if (dup2(out, 1) < 0 || dup2(log, 2) < 0) {
        _exit(126);
    }
    execv(o->program, (char *const *)argv);
    _exit(127);
}

/* Waits for "ready NAME ADDR pid N". */
static bool read_ready(int fd, uint64_t deadline_ns)
{
    char text[256];
    size_t len = 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (bench_now_ns() < deadline_ns && len + 1 < sizeof text) {
        ssize_t n = read(fd, text + len, sizeof text - 1 - len);
        if (n > 0) {
            len += (size_t)n;
            text[len] = '\0';
            if (strchr(text, '\n') != NULL) {
                return strncmp(text, "ready ", 6) == 0;
            }
        } else if (n == 0) {
            return false;
        } else {
            bench_sleep_ns(500000);
        }
    }
    return false;
}

void bench_node_start(struct bench_cluster *cluster, unsigned index)
{
    struct bench_node *node = &cluster->nodes[index];
    char log_path[300];
    int out[2];
    snprintf(log_path, sizeof log_path, "%s/%s.log", cluster->folder, node->name);
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0 || pipe2(out, O_CLOEXEC) != 0) {
        bench_die("cannot write %s: %s", log_path, strerror(errno));
    }
    node->pid = fork();
    if (node->pid == 0) {
        exec_node(cluster, node, out[1], log);
    }
    close(out[1]);
    close(log);
    if (node->pid < 0) {
        bench_die("fork: %s", strerror(errno));
    }
    bool ready = read_ready(out[0], bench_now_ns() + START_MS_MAX * 1000000ull);
    close(out[0]);
    if (!ready) {
        bench_cluster_fail(cluster, "%s was not ready on %s within %u ms", node->name,
                           node->address, START_MS_MAX);
    }
    node->stopped = false;
    bench_http_point(&node->http, node->address);
}

/* What is in a namespace of its own does not reach this host's loopback. */
static char *reachable(const char *url, bool vanish)
{
    return url == NULL ? NULL : vanish ? bench_netns_url(url) : strdup(url);
}

static void write_token(struct bench_cluster *cluster)
{
    char id[37];
    bench_request_id(id);
    snprintf(cluster->token, sizeof cluster->token, "bench-%s", id);
    snprintf(cluster->token_file, sizeof cluster->token_file, "%s/token", cluster->folder);
    FILE *out = fopen(cluster->token_file, "we");
    if (out == NULL || fprintf(out, "%s\n", cluster->token) < 0 || fclose(out) != 0) {
        bench_die("cannot write %s", cluster->token_file);
    }
}

void bench_cluster_start(struct bench_cluster *cluster, const struct bench_options *options)
{
    bool vanish = options->fault != NULL && strcmp(options->fault, "vanish") == 0;
    const char *tmp = getenv("TMPDIR");
    *cluster = (struct bench_cluster){.options = options, .len = options->nodes, .leader = -1};
    snprintf(cluster->folder, sizeof cluster->folder, "%s/hadb-bench-XXXXXX",
             tmp && *tmp ? tmp : "/tmp");
    if (mkdtemp(cluster->folder) == NULL) {
        bench_die("cannot make a folder like %s: %s", cluster->folder, strerror(errno));
    }
    running = cluster;
    atexit(at_exit);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGPIPE, SIG_IGN);
    if (vanish) {
        bench_netns_open(cluster->len);
        write_token(cluster);
    }
    cluster->store = reachable(options->store, vanish);
    cluster->lease = reachable(options->lease, vanish);
    for (unsigned i = 0; i < cluster->len; i++) {
        struct bench_node *node = &cluster->nodes[i];
        node->port = free_port();
        node->netns = vanish ? bench_netns_fd(i) : -1;
        snprintf(node->name, sizeof node->name, "n%u", i + 1);
        snprintf(node->address, sizeof node->address, "%s:%d",
                 vanish ? bench_netns_host(i) : "127.0.0.1", node->port);
        bench_http_init(&node->http, node->address, cluster->token);
        bench_node_start(cluster, i);
    }
}

void bench_cluster_stop(struct bench_cluster *cluster)
{
    end_nodes(cluster);
    for (unsigned i = 0; i < cluster->len; i++) {
        bench_http_deinit(&cluster->nodes[i].http);
    }
    free(cluster->store);
    free(cluster->lease);
    bench_netns_close();
    running = NULL;
    if (cluster->options->keep) {
        fprintf(stderr, "bench: kept %s\n", cluster->folder);
    } else {
        bench_remove_folder(cluster->folder);
    }
}

void bench_node_kill(struct bench_cluster *cluster, unsigned index)
{
    struct bench_node *node = &cluster->nodes[index];
    kill(node->pid, SIGKILL);
    waitpid(node->pid, NULL, 0);
    node->pid = 0;
}

void bench_node_pause(struct bench_cluster *cluster, unsigned index)
{
    kill(cluster->nodes[index].pid, SIGSTOP);
    cluster->nodes[index].stopped = true;
}

void bench_node_wake(struct bench_cluster *cluster, unsigned index)
{
    kill(cluster->nodes[index].pid, SIGCONT);
    cluster->nodes[index].stopped = false;
    bench_http_point(&cluster->nodes[index].http, cluster->nodes[index].address);
}

static void copy_text(char *out, size_t cap, const json_t *text)
{
    snprintf(out, cap, "%s", json_is_string(text) ? json_string_value(text) : "");
}

void bench_node_view(struct bench_cluster *cluster, unsigned index, uint64_t timeout_ms,
                     struct bench_view *out)
{
    struct bench_reply reply;
    *out = (struct bench_view){0};
    uint64_t deadline_ns = bench_now_ns() + timeout_ms * 1000000;
    struct bench_node *node = &cluster->nodes[index];
    if (node->pid <= 0 || node->stopped ||
        bench_http_request(&node->http, "GET", "/v1/status", NULL, NULL, 0, deadline_ns, &reply) !=
            200) {
        return;
    }
    json_t *status = json_loadb(reply.body, reply.body_len, 0, NULL);
    json_t *db = NULL;
    size_t i;
    json_array_foreach(json_object_get(status, "databases"), i, db)
    {
        const char *name = json_string_value(json_object_get(db, "name"));
        if (name == NULL || strcmp(name, BENCH_DB) != 0) {
            continue;
        }
        out->answered = true;
        copy_text(out->role, sizeof out->role, json_object_get(db, "role"));
        copy_text(out->chain, sizeof out->chain, json_object_get(db, "chain_hash"));
        copy_text(out->leader, sizeof out->leader,
                  json_object_get(json_object_get(db, "leader"), "node"));
        out->term = (uint64_t)json_integer_value(json_object_get(db, "term"));
        out->durable_txid = (uint64_t)json_integer_value(json_object_get(db, "durable_txid"));
        out->applied_txid = (uint64_t)json_integer_value(json_object_get(db, "applied_txid"));
    }
    json_decref(status);
}

/* The index of the only leader; -1 while there is none, or two, or the others do not follow it. */
static int find_leader(const struct bench_cluster *cluster, const struct bench_view *views)
{
    int leader = -1;
    for (unsigned i = 0; i < cluster->len; i++) {
        if (views[i].answered && strcmp(views[i].role, "leader") == 0) {
            if (leader >= 0) {
                return -1;
            }
            leader = (int)i;
        }
    }
    for (unsigned i = 0; leader >= 0 && i < cluster->len; i++) {
        bool follows = views[i].answered && views[i].term == views[leader].term &&
                       strcmp(views[i].leader, cluster->nodes[leader].name) == 0;
        if (cluster->nodes[i].pid > 0 && !follows) {
            return -1;
        }
    }
    return leader;
}

static void describe(const struct bench_cluster *cluster, const struct bench_view *views, char *out,
                     size_t cap)
{
    size_t len = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < cluster->len && len + 1 < cap; i++) {
        const struct bench_view *v = &views[i];
        len += (size_t)snprintf(out + len, cap - len, "%s%s: %s term %llu leader %s applied %llu",
                                i ? "; " : "", cluster->nodes[i].name,
                                v->answered ? v->role : "silent", (unsigned long long)v->term,
                                v->leader, (unsigned long long)v->applied_txid);
    }
}

static void view_all(struct bench_cluster *cluster, struct bench_view *views)
{
    for (unsigned i = 0; i < cluster->len; i++) {
        bench_node_view(cluster, i, 1000, &views[i]);
    }
}

unsigned bench_cluster_settle(struct bench_cluster *cluster, uint64_t timeout_ms, uint64_t *term)
{
    struct bench_view views[BENCH_NODES_MAX];
    uint64_t deadline_ns = bench_now_ns() + timeout_ms * 1000000;
    uint64_t goal_txid = 0;
    uint64_t goal_term = 0;
    while (bench_now_ns() < deadline_ns) {
        view_all(cluster, views);
        int leader = find_leader(cluster, views);
        if (leader >= 0) {
            __atomic_store_n(&cluster->leader, leader, __ATOMIC_RELAXED);
            if (goal_term != views[leader].term) {
                goal_term = views[leader].term;
                goal_txid = views[leader].durable_txid;
            }
            bool all = true;
            for (unsigned i = 0; i < cluster->len; i++) {
                all = all && (cluster->nodes[i].pid <= 0 || views[i].applied_txid >= goal_txid);
            }
            if (all) {
                *term = goal_term;
                return (unsigned)leader;
            }
        }
        bench_sleep_ns(10000000);
    }
    char text[400];
    describe(cluster, views, text, sizeof text);
    bench_cluster_fail(cluster, "no settled cluster within %llu ms (%s)",
                       (unsigned long long)timeout_ms, text);
}

void bench_cluster_agree(struct bench_cluster *cluster, uint64_t timeout_ms, char *chain)
{
    struct bench_view views[BENCH_NODES_MAX];
    uint64_t deadline_ns = bench_now_ns() + timeout_ms * 1000000;
    while (bench_now_ns() < deadline_ns) {
        view_all(cluster, views);
        bool equal = find_leader(cluster, views) >= 0;
        for (unsigned i = 1; i < cluster->len; i++) {
            equal = equal && views[i].applied_txid == views[0].applied_txid &&
                    views[i].durable_txid == views[0].durable_txid &&
                    strcmp(views[i].chain, views[0].chain) == 0 && views[i].chain[0] != '\0';
        }
        if (equal) {
            snprintf(chain, 80, "%s", views[0].chain);
            return;
        }
        bench_sleep_ns(20000000);
    }
    char text[400];
    describe(cluster, views, text, sizeof text);
    bench_cluster_fail(cluster, "nodes do not agree after %llu ms (%s)",
                       (unsigned long long)timeout_ms, text);
}
