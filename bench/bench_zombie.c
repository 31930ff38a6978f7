/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zombie: the leader sleeps (SIGSTOP) past its TTL, another takes over, the sleeper wakes up.
 *
 * While it sleeps and after the new leader has acknowledged writes (so the seal is in the log), requests are put into the
 * sleeper's own connections: durable writes, one write that asks for ASYNC, one linearizable read of a key that was
 * written in the new term. Then it is woken. Any 200 with a version of the old term is "acked_after_seal"; a
 * read that does not find the new key is a "stale_read". An answer of the new term is fine: the request was forwarded.
 * A round counts as "rejoined" when the same process follows the new leader again and has caught up.
 */
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"

#define SETTLE_MS_MAX 30000u
#define ACKS_BETWEEN 50
#define PROBES 4 /* durable writes; one ASYNC write and one read come on top */

struct zombie {
    struct bench_cluster cluster;
    struct bench_writers writers;
    struct bench_http probes[PROBES + 2];
    uint64_t acked_after_seal, stale_reads, rejoined, forwarded, refused, lost;
    struct bench_samples wake_ms; /* from SIGCONT until it has caught up as follower */
};

static void connect_probes(struct zombie *z, unsigned leader)
{
    for (unsigned i = 0; i < PROBES + 2; i++) {
        struct bench_reply reply;
        bench_http_deinit(&z->probes[i]);
        bench_http_init(&z->probes[i], z->cluster.nodes[leader].address, z->cluster.token);
        if (bench_http_request(&z->probes[i], "GET", "/healthz", NULL, NULL, 0,
                               bench_now_ns() + 5000000000ull, &reply) != 200) {
            bench_cluster_fail(&z->cluster, "/healthz of %s did not answer 200",
                               z->cluster.nodes[leader].name);
        }
    }
}

static void probe_path(char *out, size_t cap, unsigned round, unsigned i)
{
    snprintf(out, cap, "/v1/db/" BENCH_DB "/kv/z%05u-%u", round, i);
}

/* @fresh: a key that was created in the new term. */
static void send_probes(struct zombie *z, unsigned round, const char *fresh)
{
    uint64_t deadline_ns = bench_now_ns() + 1000000000ull;
    for (unsigned i = 0; i <= PROBES; i++) {
        char path[96], headers[160], id[37];
        bench_request_id(id);
        probe_path(path, sizeof path, round, i);
        snprintf(headers, sizeof headers,
                 "Hadb-Request-Id: %s\r\nHadb-Deadline-Ms: 5000\r\nHadb-Ack: %s\r\n", id,
                 i < PROBES ? "durable" : "async");
        bench_http_send(&z->probes[i], "PUT", path, headers, "z", 1, deadline_ns);
    }
    bench_http_send(&z->probes[PROBES + 1], "GET", fresh,
                    "Hadb-Read: linearizable\r\nHadb-Deadline-Ms: 5000\r\n", NULL, 0, deadline_ns);
}

/* Writes whose answer came from the new term must be there, also at the end. */
static void receive_probes(struct zombie *z, uint64_t old_term, bool acked[PROBES + 1])
{
    uint64_t deadline_ns = bench_now_ns() + 7000000000ull;
    struct bench_reply reply;
    for (unsigned i = 0; i <= PROBES; i++) {
        int status = bench_http_receive(&z->probes[i], deadline_ns, &reply);
        acked[i] = status == 200;
        z->forwarded += status == 200 && reply.term > old_term;
        z->acked_after_seal += status == 200 && reply.term <= old_term;
        z->refused += status != 200;
        if (status != 200 && z->cluster.options->verbose) {
            fprintf(stderr, "bench: probe %u: %d %.*s\n", i, status,
                    reply.body ? (int)reply.body_len : 0, reply.body ? reply.body : "");
        }
    }
    int status = bench_http_receive(&z->probes[PROBES + 1], deadline_ns, &reply);
    z->stale_reads += status == 404;
}

/* DURABLE ones only: an ASYNC answer promises nothing. */
static void check_probes(struct zombie *z, unsigned round, const bool acked[PROBES + 1],
                         unsigned leader)
{
    for (unsigned i = 0; i < PROBES; i++) {
        char path[96];
        struct bench_reply reply;
        probe_path(path, sizeof path, round, i);
        if (acked[i] && bench_http_request(&z->cluster.nodes[leader].http, "GET", path, NULL, NULL,
                                           0, bench_now_ns() + 10000000000ull, &reply) != 200) {
            z->lost++;
        }
    }
}

static void fresh_key(struct zombie *z, unsigned round, unsigned node, char *out, size_t cap)
{
    char headers[128], id[37];
    struct bench_reply reply;
    struct bench_http http;
    int status = 0;
    bench_request_id(id);
    snprintf(headers, sizeof headers, "Hadb-Request-Id: %s\r\n", id);
    snprintf(out, cap, "/v1/db/" BENCH_DB "/kv/y%05u", round);
    bench_http_init(&http, z->cluster.nodes[node].address, z->cluster.token);
    for (int tries = 0; tries < 5 && status != 200; tries++) {
        status = bench_http_request(&http, "PUT", out, headers, "y", 1,
                                    bench_now_ns() + 11000000000ull, &reply);
    }
    if (status != 200) {
        bench_cluster_fail(&z->cluster, "a write through %s failed after the take-over: %d",
                           z->cluster.nodes[node].name, status);
    }
    bench_http_deinit(&http);
}

static void one_round(struct zombie *z, unsigned round)
{
    uint64_t term, new_term;
    bool acked[PROBES + 1];
    char fresh[96];
    unsigned old = bench_cluster_settle(&z->cluster, SETTLE_MS_MAX, &term);
    pid_t pid = z->cluster.nodes[old].pid;
    if (!bench_writers_wait_acks(&z->writers, ACKS_BETWEEN, SETTLE_MS_MAX)) {
        bench_cluster_fail(&z->cluster, "%d writes took longer than %u ms", ACKS_BETWEEN,
                           SETTLE_MS_MAX);
    }
    connect_probes(z, old);
    bench_node_pause(&z->cluster, old);
    if (!bench_writers_wait_term(&z->writers, term, 1, SETTLE_MS_MAX)) {
        bench_cluster_fail(&z->cluster, "nobody took over from the sleeping %s",
                           z->cluster.nodes[old].name);
    }
    fresh_key(z, round, (old + 1) % z->cluster.len, fresh, sizeof fresh);
    send_probes(z, round, fresh);
    uint64_t wake_ns = bench_now_ns();
    bench_node_wake(&z->cluster, old);
    unsigned leader = bench_cluster_settle(&z->cluster, SETTLE_MS_MAX, &new_term);
    double wake_ms = (double)(bench_now_ns() - wake_ns) / 1e6;
    receive_probes(z, term, acked);
    bench_samples_add(&z->wake_ms, wake_ms);
    z->rejoined += z->cluster.nodes[old].pid == pid && leader != old && new_term > term;
    check_probes(z, round, acked, leader);
    bench_progress("sleep", round + 1, z->cluster.options->count, wake_ms);
}

int bench_zombie(const struct bench_options *options, json_t *out)
{
    uint64_t term;
    char chain[80];
    struct bench_verdict verdict;
    struct zombie *z = bench_alloc(sizeof *z);
    for (unsigned i = 0; i < PROBES + 2; i++) {
        z->probes[i].fd = -1;
    }
    bench_cluster_start(&z->cluster, options);
    bench_cluster_settle(&z->cluster, SETTLE_MS_MAX, &term);
    bench_writers_start(&z->writers, &z->cluster, options->writers);
    for (unsigned i = 0; i < options->count; i++) {
        one_round(z, i);
    }
    bench_writers_stop(&z->writers);
    bench_cluster_agree(&z->cluster, SETTLE_MS_MAX, chain);
    bench_writers_check(&z->writers, &verdict);
    z->lost += verdict.lost;
    bench_put_int(out, "count", options->count);
    bench_put_int(out, "acked_after_seal", z->acked_after_seal);
    bench_put_int(out, "rejoined", z->rejoined);
    bench_put_int(out, "lost", z->lost);
    bench_put_int(out, "doubled", verdict.doubled);
    bench_put_int(out, "stale_reads", z->stale_reads);
    bench_put_int(out, "errors", z->writers.errors);
    bench_put_int(out, "probes_forwarded", z->forwarded);
    bench_put_int(out, "probes_refused", z->refused);
    bench_put_int(out, "acked", bench_writers_acked(&z->writers));
    bench_put_real(out, "rejoin_ms_p50", bench_percentile(&z->wake_ms, 50), 1);
    bench_put_real(out, "rejoin_ms_p95", bench_percentile(&z->wake_ms, 95), 1);
    bench_put_int(out, "ttl_ms", options->ttl_ms);
    if (z->writers.first_error[0] != '\0') {
        json_object_set_new(out, "first_error", json_string(z->writers.first_error));
    }
    bool bad = z->acked_after_seal + z->lost + verdict.doubled + z->stale_reads > 0 ||
               z->rejoined != options->count;
    for (unsigned i = 0; i < PROBES + 2; i++) {
        bench_http_deinit(&z->probes[i]);
    }
    bench_cluster_stop(&z->cluster);
    bench_writers_deinit(&z->writers);
    bench_samples_deinit(&z->wake_ms);
    return bad ? 1 : 0;
}
