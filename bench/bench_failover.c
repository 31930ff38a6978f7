/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failover and handoff: leadership changes under load, by force and by plan.
 *
 * Each round: the cluster is settled, the fault is injected into the leader while all writers write, and the round's gap
 * is the longest time without any acknowledgement, cluster-wide, from the last one before the fault to
 * the twentieth of a later term (dead leaders' answers may still trickle in between; the longest hole counts). The node is
 * restarted or woken and has caught up before the next round begins.
 * Thread: main. Failure: a round without a new leader within ROUND_MS_MAX ends the program.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "bench/bench.h"
#include "bench/netns.h"

#define SETTLE_MS_MAX 30000u
#define ROUND_MS_MAX 30000u
#define ACKS_AFTER 20u
#define WARM_UP_ACKS 200u

struct run {
    struct bench_cluster cluster;
    struct bench_writers writers;
    struct bench_samples gaps;
    uint64_t started_ns, settled_ns;
    uint64_t handoff_errors;
};

static struct run *start(const struct bench_options *options)
{
    uint64_t term;
    struct run *run = bench_alloc(sizeof *run);
    bench_cluster_start(&run->cluster, options);
    bench_cluster_settle(&run->cluster, SETTLE_MS_MAX, &term);
    bench_writers_start(&run->writers, &run->cluster, options->writers);
    if (!bench_writers_wait_acks(&run->writers, WARM_UP_ACKS, ROUND_MS_MAX)) {
        bench_cluster_fail(&run->cluster, "%u writes took longer than %u ms (%s)", WARM_UP_ACKS,
                           ROUND_MS_MAX, run->writers.first_error);
    }
    run->started_ns = bench_now_ns();
    return run;
}

static void inject(struct run *run, unsigned leader, const char *fault)
{
    struct bench_node *node = &run->cluster.nodes[leader];
    if (strcmp(fault, "pause") == 0) {
        bench_node_pause(&run->cluster, leader);
    } else if (strcmp(fault, "vanish") == 0) {
        /* A host is gone all at once, to storage and network alike: frozen first, and the link is down before it dies, so
         * that no reset gets out. */
        kill(node->pid, SIGSTOP);
        bench_netns_link(leader, false);
        kill(node->pid, SIGKILL);
    } else {
        kill(node->pid, SIGKILL);
    }
}

static void repair(struct run *run, unsigned leader, const char *fault)
{
    if (strcmp(fault, "pause") == 0) {
        bench_node_wake(&run->cluster, leader);
        return;
    }
    bench_node_kill(&run->cluster, leader); /* reaps it */
    if (strcmp(fault, "vanish") == 0) {
        bench_netns_link(leader, true);
    }
    bench_node_start(&run->cluster, leader);
}

/* Waits for the new term and adds the round's gap. */
static double take_gap(struct run *run, uint64_t fault_ns, uint64_t term)
{
    if (!bench_writers_wait_term(&run->writers, term, ACKS_AFTER, ROUND_MS_MAX)) {
        bench_cluster_fail(&run->cluster, "no write was acknowledged in a new term within %u ms",
                           ROUND_MS_MAX);
    }
    double gap_ms = bench_writers_gap_ms(&run->writers, fault_ns);
    bench_samples_add(&run->gaps, gap_ms);
    return gap_ms;
}

/* Stops the writers, checks everything, and writes the figures that both benchmarks have. */
static int finish(struct run *run, const char *count_name, unsigned count, json_t *out)
{
    struct bench_verdict verdict;
    char chain[80];
    double took_s = (double)(bench_now_ns() - run->started_ns) / 1e9;
    bench_writers_stop(&run->writers);
    if (run->cluster.options->spoil) {
        bench_writers_spoil(&run->writers);
    }
    bench_cluster_agree(&run->cluster, SETTLE_MS_MAX, chain);
    bench_writers_check(&run->writers, &verdict);
    uint64_t acked = bench_writers_acked(&run->writers);
    bench_put_int(out, count_name, count);
    bench_put_int(out, "lost", verdict.lost);
    bench_put_int(out, "doubled", verdict.doubled);
    bench_put_int(out, "errors", run->writers.errors + run->handoff_errors);
    bench_put_real(out, "gap_ms_p50", bench_percentile(&run->gaps, 50), 1);
    bench_put_real(out, "gap_ms_p95", bench_percentile(&run->gaps, 95), 1);
    bench_put_real(out, "gap_ms_max", bench_percentile(&run->gaps, 100), 1);
    bench_put_int(out, "acked", acked);
    bench_put_int(out, "retries", run->writers.retries);
    bench_put_int(out, "foreign_keys", verdict.foreign);
    bench_put_int(out, "nodes", run->cluster.len);
    bench_put_int(out, "writers", run->writers.len);
    bench_put_int(out, "ttl_ms", run->cluster.options->ttl_ms);
    bench_put_real(out, "writes_per_s", (double)acked / took_s, 0);
    bench_put_real(out, "seconds", took_s, 1);
    if (run->writers.first_error[0] != '\0') {
        json_object_set_new(out, "first_error", json_string(run->writers.first_error));
    }
    bool bad = verdict.lost + verdict.doubled + verdict.foreign > 0;
    bench_cluster_stop(&run->cluster);
    bench_writers_deinit(&run->writers);
    bench_samples_deinit(&run->gaps);
    return bad ? 1 : 0;
}

int bench_failover(const struct bench_options *options, json_t *out)
{
    struct run *run = start(options);
    for (unsigned i = 0; i < options->count; i++) {
        uint64_t term;
        unsigned leader = bench_cluster_settle(&run->cluster, SETTLE_MS_MAX, &term);
        bench_sleep_ns(bench_random(50, 250) * 1000000); /* not in step with anything */
        uint64_t fault_ns = bench_now_ns();
        inject(run, leader, options->fault);
        double gap_ms = take_gap(run, fault_ns, term);
        repair(run, leader, options->fault);
        if (options->verbose) {
            fprintf(stderr, "bench: %s %u: %s led term %llu, gap %.1f ms\n", options->fault, i + 1,
                    run->cluster.nodes[leader].name, (unsigned long long)term, gap_ms);
        }
        bench_progress(options->fault, i + 1, options->count, gap_ms);
    }
    uint64_t term;
    bench_cluster_settle(&run->cluster, SETTLE_MS_MAX, &term);
    json_object_set_new(out, "fault", json_string(options->fault));
    return finish(run, "kills", options->count, out);
}

static void hand_over(struct run *run, unsigned leader, const char *to)
{
    char body[64];
    struct bench_reply reply;
    struct bench_http *http = &run->cluster.nodes[leader].http;
    snprintf(body, sizeof body, "{\"to\":\"%s\"}", to);
    int status = bench_http_request(http, "POST", "/v1/db/" BENCH_DB "/handoff",
                                    "Hadb-Deadline-Ms: 10000\r\n", body, strlen(body),
                                    bench_now_ns() + 11000000000ull, &reply);
    if (status != 200) {
        run->handoff_errors++;
        fprintf(stderr, "bench: hand-off to %s: %d %.*s\n", to, status,
                reply.body ? (int)reply.body_len : 0, reply.body ? reply.body : "");
    }
}

int bench_handoff(const struct bench_options *options, json_t *out)
{
    struct run *run = start(options);
    for (unsigned i = 0; i < options->count; i++) {
        uint64_t term;
        unsigned leader = bench_cluster_settle(&run->cluster, SETTLE_MS_MAX, &term);
        unsigned to = (leader + 1 + i % (run->cluster.len - 1)) % run->cluster.len;
        bench_sleep_ns(bench_random(20, 100) * 1000000);
        uint64_t fault_ns = bench_now_ns();
        uint64_t errors = run->handoff_errors;
        hand_over(run, leader, run->cluster.nodes[to].name);
        if (run->handoff_errors == errors) {
            double gap_ms = take_gap(run, fault_ns, term);
            if (options->verbose) {
                fprintf(stderr, "bench: hand-off %u: %s to %s, gap %.1f ms\n", i + 1,
                        run->cluster.nodes[leader].name, run->cluster.nodes[to].name, gap_ms);
            }
            bench_progress("hand-off", i + 1, options->count, gap_ms);
        }
    }
    return finish(run, "count", options->count, out);
}
