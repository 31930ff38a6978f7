/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writers, their history, and the gap in it. One thread per writer; the history of acknowledgements is one list
 * under a lock, so that a gap is that of the whole cluster and not of one writer.
 *
 * Happy path: PUT /v1/db/bench/kv/w<writer>-<number>?if_absent to a follower, 200, next.
 * Failure: an answer that is neither 200 nor "try again" is an error that a client sees; it is counted, and its first
 * text kept.
 */
#include "bench/writers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_BYTES 100

static void add_ack(struct bench_writers *all, uint64_t term)
{
    pthread_mutex_lock(&all->mu);
    if (all->acks_len == all->acks_cap) {
        all->acks_cap = all->acks_cap ? all->acks_cap * 2 : 65536;
        all->acks = realloc(all->acks, all->acks_cap * sizeof *all->acks);
        if (all->acks == NULL) {
            bench_die("out of memory");
        }
    }
    all->acks[all->acks_len++] = (struct bench_ack){bench_now_ns(), term};
    pthread_cond_broadcast(&all->acked);
    pthread_mutex_unlock(&all->mu);
}

static void add_problem(struct bench_writers *all, uint64_t *counter, const char *key, int status,
                        const struct bench_reply *reply)
{
    pthread_mutex_lock(&all->mu);
    (*counter)++;
    if (all->first_error[0] == '\0') {
        snprintf(all->first_error, sizeof all->first_error, "%s: %d %.*s", key, status,
                 reply->body ? (int)(reply->body_len < 120 ? reply->body_len : 120) : 0,
                 reply->body ? reply->body : "");
    }
    pthread_mutex_unlock(&all->mu);
}

static void point(struct bench_writer *writer, unsigned node)
{
    writer->node = node;
    bench_http_point(&writer->http, writer->all->cluster->nodes[node].address);
}

/* Writes go through followers: away from the leader, and from a node that does not answer. */
static void choose_node(struct bench_writer *writer, bool must_change)
{
    const struct bench_cluster *cluster = writer->all->cluster;
    int leader = __atomic_load_n(&cluster->leader, __ATOMIC_RELAXED);
    if (cluster->len == 1 || (!must_change && (int)writer->node != leader)) {
        return;
    }
    unsigned node = (writer->node + 1) % cluster->len;
    if ((int)node == leader && cluster->len > 2) {
        node = (node + 1) % cluster->len;
    }
    point(writer, node);
}

static struct bench_record *new_record(struct bench_writer *writer)
{
    if (writer->records_len == writer->records_cap) {
        writer->records_cap = writer->records_cap ? writer->records_cap * 2 : 4096;
        writer->records = realloc(writer->records, writer->records_cap * sizeof *writer->records);
        if (writer->records == NULL) {
            bench_die("out of memory");
        }
    }
    struct bench_record *record = &writer->records[writer->records_len++];
    *record = (struct bench_record){0};
    return record;
}

/* The value of a write tells which it is; the rest is padding. */
static void make_value(unsigned writer, size_t number, char out[VALUE_BYTES + 1])
{
    int len = snprintf(out, VALUE_BYTES + 1, "%u/%zu/", writer, number);
    memset(out + len, 'a' + (int)(number % 26), VALUE_BYTES - (size_t)len);
    out[VALUE_BYTES] = '\0';
}

static void write_one(struct bench_writer *writer)
{
    struct bench_writers *all = writer->all;
    size_t number = writer->records_len;
    struct bench_record *record = new_record(writer);
    char path[96], headers[160], id[37], value[VALUE_BYTES + 1];
    snprintf(path, sizeof path, "/v1/db/" BENCH_DB "/kv/w%02u-%09zu?if_absent", writer->index,
             number);
    make_value(writer->index, number, value);
    bench_request_id(id);
    snprintf(headers, sizeof headers, "Hadb-Request-Id: %s\r\nHadb-Deadline-Ms: %u\r\n", id,
             BENCH_ATTEMPT_MS);
    uint64_t deadline_ns = bench_now_ns() + BENCH_WRITE_MS * 1000000ull;
    choose_node(writer, false);
    for (unsigned tries = 0;; tries++) {
        struct bench_reply reply;
        uint64_t attempt_ns = bench_now_ns() + (BENCH_ATTEMPT_MS + 500) * 1000000ull;
        int status =
            bench_http_request(&writer->http, "PUT", path, headers, value, VALUE_BYTES,
                               attempt_ns < deadline_ns ? attempt_ns : deadline_ns, &reply);
        if (status == 200) {
            record->term = reply.term;
            record->txid = reply.txid;
            record->outcome = BENCH_ACKED;
            add_ack(all, reply.term);
            return;
        }
        bool again = status < 0 || status == 503 || status == 504;
        if (status == 412) {
            record->outcome = BENCH_TWICE;
            add_problem(all, &all->twice, path, status, &reply);
            return;
        }
        if (!again || bench_now_ns() >= deadline_ns) {
            record->outcome = BENCH_FAILED;
            add_problem(all, &all->errors, path, status, &reply);
            return;
        }
        pthread_mutex_lock(&all->mu);
        all->retries++;
        pthread_mutex_unlock(&all->mu);
        choose_node(writer, status < 0);
        bench_sleep_ns((tries < 4 ? 1 + tries : 5) * 1000000ull);
    }
}

static void *run_writer(void *arg)
{
    struct bench_writer *writer = arg;
    unsigned think_us = writer->all->cluster->options->think_us;
    while (!__atomic_load_n(&writer->all->stop, __ATOMIC_RELAXED)) {
        write_one(writer);
        if (think_us > 0) {
            bench_sleep_ns(think_us * 1000ull);
        }
    }
    return NULL;
}

void bench_writers_start(struct bench_writers *writers, struct bench_cluster *cluster, unsigned len)
{
    pthread_condattr_t attr;
    memset(writers, 0, sizeof *writers);
    writers->cluster = cluster;
    writers->len = len;
    pthread_mutex_init(&writers->mu, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&writers->acked, &attr);
    pthread_condattr_destroy(&attr);
    for (unsigned i = 0; i < len; i++) {
        struct bench_writer *writer = &writers->list[i];
        writer->all = writers;
        writer->index = i;
        writer->node = i % cluster->len;
        bench_http_init(&writer->http, cluster->nodes[writer->node].address, cluster->token);
        if (pthread_create(&writer->thread, NULL, run_writer, writer) != 0) {
            bench_die("cannot start a writer thread");
        }
    }
}

void bench_writers_stop(struct bench_writers *writers)
{
    __atomic_store_n(&writers->stop, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < writers->len; i++) {
        pthread_join(writers->list[i].thread, NULL);
        bench_http_deinit(&writers->list[i].http);
    }
}

void bench_writers_deinit(struct bench_writers *writers)
{
    for (unsigned i = 0; i < writers->len; i++) {
        free(writers->list[i].records);
    }
    free(writers->acks);
    pthread_mutex_destroy(&writers->mu);
    pthread_cond_destroy(&writers->acked);
}

/* Waits for @count acknowledgements behind index @from whose term is above @term. */
static bool wait_acks(struct bench_writers *writers, size_t from, uint64_t term, size_t count,
                      uint64_t timeout_ms)
{
    uint64_t until_ns = bench_now_ns() + timeout_ms * 1000000;
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                             .tv_nsec = (long)(until_ns % 1000000000u)};
    size_t found = 0;
    bool in_time = true;
    pthread_mutex_lock(&writers->mu);
    while (found < count && in_time) {
        for (; from < writers->acks_len && found < count; from++) {
            found += writers->acks[from].term > term;
        }
        if (found < count) {
            in_time = pthread_cond_timedwait(&writers->acked, &writers->mu, &until) == 0;
        }
    }
    pthread_mutex_unlock(&writers->mu);
    return found >= count;
}

static size_t acks_len(struct bench_writers *writers)
{
    pthread_mutex_lock(&writers->mu);
    size_t len = writers->acks_len;
    pthread_mutex_unlock(&writers->mu);
    return len;
}

bool bench_writers_wait_term(struct bench_writers *writers, uint64_t term, size_t count,
                             uint64_t timeout_ms)
{
    size_t len = acks_len(writers);
    return wait_acks(writers, len > 10000 ? len - 10000 : 0, term, count, timeout_ms);
}

bool bench_writers_wait_acks(struct bench_writers *writers, size_t count, uint64_t timeout_ms)
{
    return wait_acks(writers, acks_len(writers), 0, count, timeout_ms);
}

double bench_writers_gap_ms(struct bench_writers *writers, uint64_t from_ns)
{
    uint64_t gap_ns = 0;
    pthread_mutex_lock(&writers->mu);
    for (size_t i = writers->acks_len; i-- > 1 && writers->acks[i].at_ns > from_ns;) {
        uint64_t pause_ns = writers->acks[i].at_ns - writers->acks[i - 1].at_ns;
        gap_ns = pause_ns > gap_ns ? pause_ns : gap_ns;
    }
    pthread_mutex_unlock(&writers->mu);
    return (double)gap_ns / 1e6;
}

uint64_t bench_writers_acked(const struct bench_writers *writers)
{
    uint64_t acked = 0;
    for (unsigned i = 0; i < writers->len; i++) {
        for (size_t k = 0; k < writers->list[i].records_len; k++) {
            acked += writers->list[i].records[k].outcome == BENCH_ACKED;
        }
    }
    return acked;
}
