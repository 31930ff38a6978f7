/* SPDX-License-Identifier: Apache-2.0 */
/*
 * durable: group commit. One writer against N, each waiting for its own DURABLE answer before it writes again, over a
 * "mem:" store with an injected latency; once inside this process through the public API, once over HTTP
 * against a `hadb node` process of its own.
 *
 * The two sides run interleaved, ROUNDS times each; the figures are medians. Puts and batches are the node's own counters
 * (GET /v1/metrics): writes_per_put is writes over objects created in the log, puts_per_batch is all create
 * requests that reached the store over log entries that became durable. Snapshots are off: they would
 * create objects that belong to no batch.
 * --store s3: over a MinIO of its own (scripts/bench.sh), in-process. ack_ms_p50 is one writer's DURABLE write, and
 * bare_put_ms_p50 one conditional PUT of as many bytes by libcurl alone, in turn; then N writers.
 * Thread: main, and one per writer. Failure: a write that fails ends the program.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/s3_load.h"
#include "hadb/hadb.h"

#define ROUNDS 5
#define ROUND_NS 1500000000ull
#define WARM_UP_NS 300000000ull
#define VALUE_BYTES 100
#define PAIRS 200 /* --store s3: writes, each beside a bare PUT, in a round */

struct side {
    struct hadb_db *db;  /* in-process */
    const char *address; /* over HTTP */
    uint64_t until_ns;
    uint64_t done; /* atomic */
};

struct thread_arg {
    struct side *side;
    pthread_t thread;
    unsigned index;
    unsigned run;
};

struct counters {
    uint64_t log_creates, creates, entries, create_bytes;
};

static void *write_in_process(void *arg)
{
    struct thread_arg *me = arg;
    struct hadb_error err = {0};
    char key[64];
    char value[VALUE_BYTES];
    memset(value, 'v', sizeof value);
    uint64_t done = 0;
    for (; bench_now_ns() < me->side->until_ns; done++) {
        int len =
            snprintf(key, sizeof key, "p%u-%u-%llu", me->run, me->index, (unsigned long long)done);
        int r = hadb_kv_put(me->side->db, (struct hadb_slice){key, (size_t)len},
                            (struct hadb_slice){value, sizeof value}, NULL, NULL, &err);
        if (r != 0) {
            bench_die("a write failed: %s", err.message);
        }
    }
    __atomic_fetch_add(&me->side->done, done, __ATOMIC_RELAXED);
    return NULL;
}

static void *write_http(void *arg)
{
    struct thread_arg *me = arg;
    struct bench_http http;
    struct bench_reply reply;
    char path[96];
    char value[VALUE_BYTES];
    memset(value, 'v', sizeof value);
    bench_http_init(&http, me->side->address, NULL);
    uint64_t done = 0;
    for (; bench_now_ns() < me->side->until_ns; done++) {
        snprintf(path, sizeof path, "/v1/db/" BENCH_DB "/kv/p%u-%u-%llu", me->run, me->index,
                 (unsigned long long)done);
        int status = bench_http_request(&http, "PUT", path, NULL, value, sizeof value,
                                        bench_now_ns() + 10000000000ull, &reply);
        if (status != 200) {
            bench_die("a write failed: %d %.*s", status, reply.body ? (int)reply.body_len : 0,
                      reply.body ? reply.body : "");
        }
    }
    __atomic_fetch_add(&me->side->done, done, __ATOMIC_RELAXED);
    bench_http_deinit(&http);
    return NULL;
}

static uint64_t find_counter(const char *text, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = text; line != NULL && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) == 0 && line[len] == ' ') {
            return strtoull(line + len + 1, NULL, 10);
        }
    }
    bench_die("the node's metrics have no counter '%s'", name);
}

static struct counters parse_counters(const char *text)
{
    return (struct counters){.log_creates = find_counter(text, "log_creates"),
                             .creates = find_counter(text, "storage_create_done") +
                                        find_counter(text, "storage_create_outcomes") +
                                        find_counter(text, "storage_create_unknown") +
                                        find_counter(text, "storage_create_failed"),
                             .entries = find_counter(text, "log_entries_durable"),
                             .create_bytes = find_counter(text, "storage_create_bytes")};
}

static struct counters read_counters(struct hadb_node *node, const struct side *side)
{
    struct counters out;
    if (node != NULL) {
        struct hadb_error err = {0};
        struct hadb_buf text = {0};
        if (hadb_node_metrics(node, &text, &err) != 0) {
            bench_die("metrics: %s", err.message);
        }
        char *copy = bench_alloc(text.len + 1);
        memcpy(copy, text.data, text.len);
        out = parse_counters(copy);
        free(copy);
        hadb_buf_deinit(&text);
        return out;
    }
    struct bench_http http;
    struct bench_reply reply;
    bench_http_init(&http, side->address, NULL);
    if (bench_http_request(&http, "GET", "/v1/metrics", NULL, NULL, 0,
                           bench_now_ns() + 5000000000ull, &reply) != 200) {
        bench_die("/v1/metrics did not answer 200");
    }
    out = parse_counters(reply.body);
    bench_http_deinit(&http);
    return out;
}

/* Writes per second of @writers for @ns. */
static double run_side(struct side *side, unsigned writers, uint64_t ns)
{
    static unsigned run;
    struct thread_arg args[BENCH_WRITERS_MAX];
    side->done = 0;
    uint64_t start_ns = bench_now_ns();
    side->until_ns = start_ns + ns;
    run++;
    for (unsigned i = 0; i < writers; i++) {
        args[i] = (struct thread_arg){.side = side, .index = i, .run = run};
        if (pthread_create(&args[i].thread, NULL, side->db ? write_in_process : write_http,
                           &args[i]) != 0) {
            bench_die("cannot start a writer thread");
        }
    }
    for (unsigned i = 0; i < writers; i++) {
        pthread_join(args[i].thread, NULL);
    }
    return (double)side->done * 1e9 / (double)(bench_now_ns() - start_ns);
}

/* Both sides in turn; figures under @prefix. */
static void measure(struct hadb_node *node, struct side *side, unsigned writers, const char *prefix,
                    json_t *out)
{
    struct bench_samples one = {0}, many = {0}, per_put = {0}, per_batch = {0}, ratio = {0};
    char name[64];
    run_side(side, 1, WARM_UP_NS);
    run_side(side, writers, WARM_UP_NS);
    for (int i = 0; i < ROUNDS; i++) {
        double single = run_side(side, 1, ROUND_NS);
        struct counters before = read_counters(node, side);
        double together = run_side(side, writers, ROUND_NS);
        struct counters after = read_counters(node, side);
        double puts = (double)(after.log_creates - before.log_creates);
        double entries = (double)(after.entries - before.entries);
        bench_samples_add(&one, single);
        bench_samples_add(&many, together);
        bench_samples_add(&ratio, together / single);
        bench_samples_add(&per_put, puts > 0 ? (double)side->done / puts : 0);
        bench_samples_add(&per_batch,
                          entries > 0 ? (double)(after.creates - before.creates) / entries : 0);
        bench_progress(side->db ? "in-process" : "http", (unsigned)i + 1, ROUNDS, 0);
    }
    snprintf(name, sizeof name, "%swrites_per_s", prefix);
    bench_put_real(out, name, bench_median(&many), 0);
    snprintf(name, sizeof name, "%sone_writer_writes_per_s", prefix);
    bench_put_real(out, name, bench_median(&one), 0);
    snprintf(name, sizeof name, "%sratio", prefix);
    bench_put_real(out, name, bench_median(&ratio), 1);
    snprintf(name, sizeof name, "%swrites_per_put", prefix);
    bench_put_real(out, name, bench_median(&per_put), 1);
    snprintf(name, sizeof name, "%sputs_per_batch", prefix);
    bench_put_real(out, name, bench_median(&per_batch), 3);
    bench_samples_deinit(&one);
    bench_samples_deinit(&many);
    bench_samples_deinit(&per_put);
    bench_samples_deinit(&per_batch);
    bench_samples_deinit(&ratio);
}

struct own_node {
    char folder[64];
    struct hadb_node *node;
    struct hadb_db *db;
};

static void own_node_open(struct own_node *own, const struct bench_options *options,
                          const char *url)
{
    struct hadb_error err = {0};
    *own = (struct own_node){.folder = "/tmp/hadb-bench-XXXXXX"};
    if (mkdtemp(own->folder) == NULL) {
        bench_die("cannot make a folder below /tmp");
    }
    struct hadb_node_options node_options = HADB_NODE_OPTIONS_INIT;
    node_options.name = "n1";
    node_options.data_dir = own->folder;
    node_options.storage_url = url;
    node_options.lease_url = "mem:";
    node_options.listen = "";
    struct hadb_db_options db_options = HADB_DB_OPTIONS_INIT;
    db_options.engine = options->engine;
    db_options.no_snapshots = true;
    if (hadb_node_open(&node_options, &own->node, &err) != 0 ||
        hadb_db_open(own->node, BENCH_DB, &db_options, &own->db, &err) != 0 ||
        hadb_db_wait_ready(own->db, 20000, &err) != 0) {
        bench_die("opening the node: %s", err.message);
    }
}

static void own_node_close(struct own_node *own)
{
    hadb_node_close(own->node, 2000);
    bench_remove_folder(own->folder);
}

static void in_process(const struct bench_options *options, const char *url, json_t *out)
{
    struct own_node own;
    own_node_open(&own, options, url);
    struct side side = {.db = own.db};
    measure(own.node, &side, options->writers, "", out);
    own_node_close(&own);
}

static void over_http(const struct bench_options *options, const char *url, json_t *out)
{
    struct bench_cluster cluster;
    struct bench_options single = *options;
    uint64_t term;
    single.nodes = 1;
    single.store = url;
    single.lease = "mem:";
    single.fault = NULL;
    bench_cluster_start(&cluster, &single);
    bench_cluster_settle(&cluster, 20000, &term);
    struct side side = {.address = cluster.nodes[0].address};
    measure(NULL, &side, options->writers, "http_", out);
    bench_cluster_stop(&cluster);
}

/* --- over S3 ------------------------------------------------------------------------------------ */

static double write_ms(struct hadb_db *db, unsigned number)
{
    struct hadb_error err = {0};
    char key[64], value[VALUE_BYTES];
    memset(value, 'v', sizeof value);
    int len = snprintf(key, sizeof key, "one-%u", number);
    uint64_t start = bench_now_ns();
    if (hadb_kv_put(db, (struct hadb_slice){key, (size_t)len},
                    (struct hadb_slice){value, sizeof value}, NULL, NULL, &err) != 0) {
        bench_die("a write failed: %s", err.message);
    }
    return (double)(bench_now_ns() - start) / 1e6;
}

struct pairs {
    struct own_node *own;
    struct s3_plain *plain;
    struct s3_load load;
    unsigned number;
    struct bench_samples acks, puts, ratios;
};

/* One write, one bare PUT of as many bytes as the write's entry had, in turn. */
static void run_pairs(struct pairs *p, unsigned len)
{
    struct bench_samples acks = {0}, puts = {0};
    char names[64];
    for (unsigned i = 0; i < len; i++) {
        bench_samples_add(&acks, write_ms(p->own->db, p->number));
        snprintf(names, sizeof names, "bare-%u", p->number++);
        p->load.names = names;
        bench_samples_add(&puts, (double)s3_plain_run_ns(p->plain, &p->load) / 1e6);
    }
    bench_samples_add(&p->acks, bench_median(&acks));
    bench_samples_add(&p->puts, bench_median(&puts));
    bench_samples_add(&p->ratios, bench_median(&acks) / bench_median(&puts));
    bench_samples_deinit(&acks);
    bench_samples_deinit(&puts);
}

static size_t entry_bytes(struct own_node *own, const struct side *side)
{
    struct counters before = read_counters(own->node, side);
    for (unsigned i = 0; i < 20; i++) {
        write_ms(own->db, i);
    }
    struct counters after = read_counters(own->node, side);
    return (size_t)((after.create_bytes - before.create_bytes) / (after.creates - before.creates));
}

static void measure_s3(struct own_node *own, const struct bench_options *options,
                       const struct s3_place *place, json_t *out)
{
    struct bench_samples many = {0}, per_batch = {0}, per_put = {0};
    struct side side = {.db = own->db};
    struct pairs p = {.own = own, .plain = s3_plain_open(place), .number = 20};
    p.load =
        (struct s3_load){.put = true, .count = 1, .in_flight = 1, .size = entry_bytes(own, &side)};
    p.load.bytes = bench_alloc(p.load.size);
    run_pairs(&p, 20); /* warms up; the first of the medians */
    p.acks.len = p.puts.len = p.ratios.len = 0;
    run_side(&side, options->writers, WARM_UP_NS);
    for (unsigned i = 0; i < ROUNDS; i++) {
        run_pairs(&p, PAIRS);
        struct counters before = read_counters(own->node, &side);
        bench_samples_add(&many, run_side(&side, options->writers, ROUND_NS));
        struct counters after = read_counters(own->node, &side);
        double entries = (double)(after.entries - before.entries);
        double puts = (double)(after.creates - before.creates);
        bench_samples_add(&per_batch, entries > 0 ? puts / entries : 0);
        bench_samples_add(&per_put, puts > 0 ? (double)side.done / puts : 0);
        bench_progress("s3", i + 1, ROUNDS, 0);
    }
    bench_put_int(out, "entry_bytes", p.load.size);
    bench_put_real(out, "ack_ms_p50", bench_median(&p.acks), 3);
    bench_put_real(out, "bare_put_ms_p50", bench_median(&p.puts), 3);
    bench_put_real(out, "ratio", bench_median(&p.ratios), 2);
    bench_put_real(out, "writes_per_s", bench_median(&many), 0);
    bench_put_real(out, "puts_per_batch", bench_median(&per_batch), 3);
    bench_put_real(out, "writes_per_put", bench_median(&per_put), 1);
    s3_plain_close(p.plain);
    free((void *)p.load.bytes);
    bench_samples_deinit(&p.acks);
    bench_samples_deinit(&p.puts);
    bench_samples_deinit(&p.ratios);
    bench_samples_deinit(&many);
    bench_samples_deinit(&per_batch);
    bench_samples_deinit(&per_put);
}

static int over_s3(const struct bench_options *options, json_t *out)
{
    struct s3_place place = s3_place_read();
    struct own_node own;
    own_node_open(&own, options, place.url);
    place.prefix = "bare";
    bench_put_int(out, "writers", options->writers);
    measure_s3(&own, options, &place, out);
    own_node_close(&own);
    return 0;
}

int bench_durable(const struct bench_options *options, json_t *out)
{
    char url[64];
    if (options->store != NULL && strcmp(options->store, "s3") == 0) {
        return over_s3(options, out);
    }
    snprintf(url, sizeof url, "mem:?latency_ms=%u", options->latency_ms);
    bench_put_int(out, "writers", options->writers);
    bench_put_int(out, "latency_ms", options->latency_ms);
    in_process(options, url, out);
    over_http(options, url, out);
    return 0;
}
