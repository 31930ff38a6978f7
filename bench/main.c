/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program hadb-bench: picks a benchmark, prints its figures as a table or (--json) as one JSON object, last on
 * stdout. Exit code 0: it ran and no promise was broken; 1: it could not run, or something was lost; 2: wrong usage.
 */
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"

struct bench {
    const char *name;
    const char *summary;
    unsigned count; /* default */
    unsigned ttl_ms;
    unsigned writers;
    int (*run)(const struct bench_options *options, json_t *out);
};

static const struct bench benches[] = {
    {"failover", "kill, pause or cut off the leader under load; the gap without any write", 50,
     5000, 4, bench_failover},
    {"handoff", "planned hand-offs under load", 50, 5000, 4, bench_handoff},
    {"zombie", "leaders that sleep past their TTL and wake up", 20, 1000, 4, bench_zombie},
    {"durable", "group commit: one writer against many", 0, 5000, 64, bench_durable},
};

void bench_put_real(json_t *out, const char *name, double value, int digits)
{
    double scale = pow(10, digits);
    json_object_set_new(out, name, json_real(round(value * scale) / scale));
}

void bench_put_int(json_t *out, const char *name, uint64_t value)
{
    json_object_set_new(out, name, json_integer((json_int_t)value));
}

void bench_progress(const char *what, unsigned done, unsigned total, double last_ms)
{
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r\033[K%s %u of %u, last gap %.1f ms%s", what, done, total, last_ms,
                done == total ? "\n" : "");
    } else if (done % 10 == 0 || done == total) {
        fprintf(stderr, "bench: %s %u of %u, last gap %.1f ms\n", what, done, total, last_ms);
    }
}

static int usage(const char *problem, const char *value)
{
    if (problem != NULL) {
        fprintf(stderr, "bench: %s%s\n", problem, value ? value : "");
    }
    fprintf(stderr, "usage: hadb-bench NAME [options]\n\n");
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++) {
        fprintf(stderr, "  %-9s %s\n", benches[i].name, benches[i].summary);
    }
    fprintf(stderr,
            "\n"
            "  --kills N, --count N  how many faults\n"
            "  --ttl-ms T            TTL of the nodes (failover and handoff 5000, zombie 1000)\n"
            "  --fault F             failover: kill (default), pause, vanish (needs root)\n"
            "  --writers N           concurrent writers (4; durable 64)\n"
            "  --think-us N          a writer's pause after each answer (default 0)\n"
            "  --nodes N             3 (default) to 7\n"
            "  --latency-ms L        durable: latency of the store (default 2)\n"
            "  --store URL, --lease URL   default: folders below the bench's own\n"
            "  --engine E            kv (default) or memory\n"
            "  --ack MODE            of the database: durable (default), both, local, async; with "
            "the last two\n"
            "                        failover finds lost writes, as it must\n"
            "  --program PATH        hadb; default: beside this program's folder\n"
            "  --json                one JSON object, last on stdout\n"
            "  --keep                keep the folder with data and logs\n"
            "  --verbose             one line per fault\n"
            "  --spoil               delete one acknowledged write and repeat another before the "
            "check, which must\n"
            "                        find both\n");
    return 2;
}

static bool take_number(const char *text, unsigned lo, unsigned hi, unsigned *out)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || text[0] == '-' || value < lo || value > hi) {
        return false;
    }
    *out = (unsigned)value;
    return true;
}

enum { OPT_COUNT = 256, OPT_TTL, OPT_FAULT, OPT_WRITERS, OPT_THINK, OPT_NODES, OPT_LATENCY };
enum { OPT_STORE = 512, OPT_LEASE, OPT_ENGINE, OPT_ACK, OPT_PROGRAM };
enum { OPT_JSON = 768, OPT_KEEP, OPT_VERBOSE, OPT_SPOIL };

static bool take_option(int option, struct bench_options *o)
{
    switch (option) {
    case OPT_COUNT:
        return take_number(optarg, 1, 100000, &o->count);
    case OPT_TTL:
        return take_number(optarg, 100, 600000, &o->ttl_ms);
    case OPT_WRITERS:
        return take_number(optarg, 1, BENCH_WRITERS_MAX, &o->writers);
    case OPT_THINK:
        return take_number(optarg, 0, 1000000, &o->think_us);
    case OPT_NODES:
        return take_number(optarg, 3, BENCH_NODES_MAX, &o->nodes);
    case OPT_LATENCY:
        return take_number(optarg, 0, 1000, &o->latency_ms);
    case OPT_FAULT:
        o->fault = optarg;
        return strcmp(optarg, "kill") == 0 || strcmp(optarg, "pause") == 0 ||
               strcmp(optarg, "vanish") == 0;
    case OPT_STORE:
        o->store = optarg;
        return true;
    case OPT_LEASE:
        o->lease = optarg;
        return true;
    case OPT_ENGINE:
        o->engine = optarg;
        return true;
    case OPT_ACK:
        o->ack = optarg;
        return true;
    case OPT_PROGRAM:
        o->program = optarg;
        return true;
    case OPT_JSON:
        return o->json = true;
    case OPT_KEEP:
        return o->keep = true;
    case OPT_VERBOSE:
        return o->verbose = true;
    case OPT_SPOIL:
        return o->spoil = true;
    default:
        return false;
    }
}

static int parse(int argc, char **argv, struct bench_options *o)
{
    static const struct option options[] = {
        {"kills", required_argument, NULL, OPT_COUNT},
        {"count", required_argument, NULL, OPT_COUNT},
        {"ttl-ms", required_argument, NULL, OPT_TTL},
        {"fault", required_argument, NULL, OPT_FAULT},
        {"writers", required_argument, NULL, OPT_WRITERS},
        {"think-us", required_argument, NULL, OPT_THINK},
        {"nodes", required_argument, NULL, OPT_NODES},
        {"latency-ms", required_argument, NULL, OPT_LATENCY},
        {"store", required_argument, NULL, OPT_STORE},
        {"lease", required_argument, NULL, OPT_LEASE},
        {"engine", required_argument, NULL, OPT_ENGINE},
        {"ack", required_argument, NULL, OPT_ACK},
        {"program", required_argument, NULL, OPT_PROGRAM},
        {"json", no_argument, NULL, OPT_JSON},
        {"keep", no_argument, NULL, OPT_KEEP},
        {"verbose", no_argument, NULL, OPT_VERBOSE},
        {"spoil", no_argument, NULL, OPT_SPOIL},
        {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (!take_option(option, o)) {
            return usage(option == '?' ? NULL : "bad value: ", option == '?' ? NULL : optarg);
        }
    }
    return optind < argc ? usage("one argument too many: ", argv[optind]) : 0;
}

/* <build>/bench/hadb-bench → <build>/hadb */
static void default_program(char *out, size_t cap)
{
    ssize_t len = readlink("/proc/self/exe", out, cap - 1);
    out[len > 0 ? len : 0] = '\0';
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(out, '/');
        if (slash != NULL) {
            *slash = '\0';
        }
    }
    strncat(out, "/hadb", cap - strlen(out) - 1);
}

static void print_table(const json_t *figures)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)figures, name, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
        printf("%-26s %s\n", name, text ? text : "");
        free(text);
    }
}

int main(int argc, char **argv)
{
    const struct bench *bench = NULL;
    for (size_t i = 0; argc > 1 && i < sizeof benches / sizeof benches[0]; i++) {
        bench = strcmp(argv[1], benches[i].name) == 0 ? &benches[i] : bench;
    }
    if (bench == NULL) {
        return usage(argc > 1 ? "no such benchmark: " : NULL, argc > 1 ? argv[1] : NULL);
    }
    char program[PATH_MAX + 8];
    struct bench_options options = {.engine = "kv",
                                    .ack = "durable",
                                    .nodes = 3,
                                    .writers = bench->writers,
                                    .ttl_ms = bench->ttl_ms,
                                    .count = bench->count,
                                    .latency_ms = 2,
                                    .fault = "kill"};
    int r = parse(argc - 1, argv + 1, &options);
    if (r != 0) {
        return r;
    }
    if (options.program == NULL) {
        default_program(program, PATH_MAX);
        options.program = program;
    }
    if (access(options.program, X_OK) != 0) {
        bench_die("there is no program %s; build it, or give --program PATH", options.program);
    }
    json_t *figures = json_pack("{s:s}", "bench", bench->name);
    r = bench->run(&options, figures);
    if (options.json) {
        json_dumpf(figures, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12));
        putchar('\n');
    } else {
        print_table(figures);
    }
    json_decref(figures);
    return fflush(stdout) == 0 ? r : 1;
}
