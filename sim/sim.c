/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb-sim: deterministic simulation of a cluster, seed after seed (protocol 4.17, 4.18).
 *
 * Owns       the command line, running a seed (twice, if asked), telling and shrinking a failure.
 * Happy path all seeds pass: exit 0.
 * Failure    a violation: the seed, the oracle, the last lines, the smallest set of faults that still
 *            fails, and how to replay it; exit 1. Wrong usage: exit 2.
 *
 * Thread: one.
 */
#include "base/util.h"
#include "sim/sim_private.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEPS_DEFAULT 3000000u

struct options {
    uint64_t from, to;
    struct sim_options sim;
    bool twice, json, coverage, replay, no_shrink, hashes;
    const char *off, *need, *seeds_file;
};

struct outcome {
    uint64_t hash, steps;
    uint32_t requests;
    char violation[240];
};

struct total {
    uint64_t seeds, failed, steps, requests, hash;
    double seconds;
};

static struct sim sim;
static uint64_t sometimes[SIM_S_LEN];
static jmp_buf trap;

/* Takes the place of the one in base/: a broken invariant of the machine is a violation of the seed. */
_Noreturn void hadb_assert_failed(const char *expr, const char *file, int line, const char *func)
{
    (void)func;
    sim_fail(&sim, "broken invariant: %s (%s:%d)", expr, file, line);
    longjmp(trap, 1);
}

static void usage(FILE *out)
{
    fprintf(
        out,
        "usage: hadb-sim --seeds A..B [--twice] [--nodes N] [--steps N] [--off RULE]\n"
        "                [--faults NAME,NAME... | --without NAME,NAME...] [--coverage]\n"
        "                [--need FILE] [--hashes] [--json]\n"
        "       hadb-sim --seeds-file FILE ...\n"
        "       hadb-sim --replay SEED ...   tells everything that happens\n"
        "       hadb-sim --list-faults | --help\n"
        "Runs a simulated cluster with failing stores, networks, clocks and processes for each "
        "seed\n"
        "and checks that no promise is broken and that it recovers when the trouble ends.\n"
        "  --twice     every seed twice; both runs must have the same trace hash\n"
        "  --off RULE  switch a safety rule off (hadb-mc --list-rules); a violation is expected\n"
        "  --faults    only these kinds of faults may be drawn; --without: not these\n"
        "  --coverage  print how often each interesting situation was met\n"
        "  --need FILE fail if a situation named in FILE (one a line) was never met\n"
        "Exit: 0 all seeds pass, 1 a violation or a situation missing, 2 wrong usage.\n");
}

/* ---- one seed ---- */

static void run_seed(uint64_t seed, const struct sim_options *opt, uint64_t *counters,
                     struct outcome *out)
{
    if (setjmp(trap) == 0) {
        sim_init(&sim, seed, opt, counters);
        sim_run(&sim);
        if (!sim.over) {
            sim_fail(&sim, "no end within %" PRIu64 " steps", opt->steps_max);
        }
    }
    memset(out, 0, sizeof *out);
    out->hash = sim.hash;
    out->steps = sim.steps;
    out->requests = sim.reqs_len;
    memcpy(out->violation, sim.violation, sizeof out->violation);
}

/* The part of a violation that must stay the same while shrinking: the oracle's name. */
static bool same_kind(const char *a, const char *b)
{
    size_t len = strcspn(a, ":");
    return strncmp(a, b, HADB_MIN(len + 1, (size_t)6)) == 0;
}

/* Leaves out kinds of faults one after the other as long as the seed still fails in the same way. */
static uint64_t shrink(uint64_t seed, const struct options *opt, const char *violation)
{
    static uint64_t ignored[SIM_S_LEN];
    struct sim_options o = opt->sim;
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < SIM_F_BITS; i++) {
            if (!(o.faults & (1ull << i))) {
                continue;
            }
            struct sim_options less = o;
            less.faults &= ~(1ull << i);
            struct outcome out;
            run_seed(seed, &less, ignored, &out);
            sim_free(&sim);
            if (out.violation[0] != '\0' && same_kind(violation, out.violation)) {
                o.faults = less.faults;
            }
        }
    }
    return o.faults;
}

static void print_faults(uint64_t faults)
{
    bool first = true;
    for (unsigned i = 0; i < SIM_F_BITS; i++) {
        if (faults & (1ull << i)) {
            printf("%s%s", first ? "" : ",", sim_fault_names[i]);
            first = false;
        }
    }
    printf("%s", first ? "none" : "");
}

static void tell(uint64_t seed, const struct options *opt, const char *violation)
{
    static uint64_t ignored[SIM_S_LEN];
    struct sim_options o = opt->sim;
    struct outcome out;
    if (!opt->no_shrink) {
        o.faults = shrink(seed, opt, violation);
    }
    o.keep_lines = true;
    o.verbose = false;
    run_seed(seed, &o, ignored, &out);
    printf("counterexample: seed %" PRIu64 ": %s\n", seed,
           out.violation[0] != '\0' ? out.violation : violation);
    printf("the last that happened, with the faults ");
    print_faults(o.faults & sim.draw.faults);
    printf(":\n");
    sim_tail(&sim, stdout);
    printf("replay: hadb-sim --replay %" PRIu64 " --nodes %u --faults ", seed, sim.draw.nodes);
    print_faults(o.faults & sim.draw.faults);
    printf("%s%s\n", opt->off ? " --off " : "", opt->off ? opt->off : "");
    fflush(stdout);
    sim_free(&sim);
}

static void one_seed(uint64_t seed, const struct options *opt, struct total *total)
{
    struct outcome first;
    struct outcome second;
    run_seed(seed, &opt->sim, sometimes, &first);
    sim_free(&sim);
    total->seeds++;
    total->steps += first.steps;
    total->requests += first.requests;
    total->hash = (total->hash ^ first.hash) * 0x9fb21c651e98df25ull;
    if (first.violation[0] == '\0' && opt->twice) {
        static uint64_t ignored[SIM_S_LEN];
        run_seed(seed, &opt->sim, ignored, &second);
        sim_free(&sim);
        if (second.hash != first.hash || second.steps != first.steps) {
            snprintf(first.violation, sizeof first.violation,
                     "determinism: trace %016" PRIx64 " of %" PRIu64 " steps, then %016" PRIx64
                     " of %" PRIu64,
                     first.hash, first.steps, second.hash, second.steps);
        }
    }
    if (opt->hashes || opt->replay) {
        printf("seed %" PRIu64 " trace %016" PRIx64 " steps %" PRIu64 " requests %u%s%s\n", seed,
               first.hash, first.steps, first.requests, first.violation[0] ? " VIOLATION " : "",
               first.violation);
    }
    if (first.violation[0] != '\0') {
        total->failed++;
        if (!opt->replay) {
            tell(seed, opt, first.violation);
        }
    }
}

/* ---- command line ---- */

static bool parse_number(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    *out = n;
    return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0';
}

static bool parse_seeds(const char *text, struct options *opt)
{
    char copy[64];
    if (strlen(text) >= sizeof copy) {
        return false;
    }
    strcpy(copy, text);
    char *dots = strstr(copy, "..");
    if (dots == NULL) {
        return parse_number(copy, &opt->from) && parse_number(copy, &opt->to);
    }
    *dots = '\0';
    return parse_number(copy, &opt->from) && parse_number(dots + 2, &opt->to) &&
           opt->from <= opt->to;
}

static bool parse_faults(const char *text, uint64_t *out)
{
    char copy[1024];
    if (strlen(text) >= sizeof copy) {
        return false;
    }
    strcpy(copy, text);
    *out = 0;
    char *save = NULL;
    for (char *name = strtok_r(copy, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
        unsigned i = 0;
        while (i < SIM_F_BITS && strcmp(sim_fault_names[i], name) != 0) {
            i++;
        }
        if (i < SIM_F_BITS) {
            *out |= 1ull << i;
        } else if (strcmp(name, "none") != 0) {
            return false;
        }
    }
    return true;
}

static bool parse_rule(const char *text, uint32_t *rules)
{
#define HADB_X(name, bit, words)    \
    if (strcmp(text, #name) == 0) { \
        *rules &= ~(1u << (bit));   \
        return true;                \
    }
    HADB_RULES(HADB_X)
#undef HADB_X
    return false;
}

static bool parse_value(struct options *opt, const char *name, const char *value)
{
    uint64_t n = 0;
    if (strcmp(name, "--seeds") == 0) {
        return parse_seeds(value, opt);
    }
    if (strcmp(name, "--replay") == 0) {
        opt->replay = opt->sim.verbose = true;
        return parse_seeds(value, opt) && opt->from == opt->to;
    }
    if (strcmp(name, "--seeds-file") == 0) {
        opt->seeds_file = value;
        return true;
    }
    if (strcmp(name, "--need") == 0) {
        opt->need = value;
        return true;
    }
    if (strcmp(name, "--off") == 0) {
        opt->off = value;
        return parse_rule(value, &opt->sim.rules);
    }
    if (strcmp(name, "--faults") == 0) {
        return parse_faults(value, &opt->sim.faults);
    }
    if (strcmp(name, "--without") == 0) {
        uint64_t without;
        bool ok = parse_faults(value, &without);
        opt->sim.faults = ok ? SIM_FAULTS_ALL & ~without : 0;
        return ok;
    }
    if (!parse_number(value, &n)) {
        return false;
    }
    if (strcmp(name, "--nodes") == 0 && n >= 1 && n <= SIM_NODES_MAX) {
        opt->sim.nodes = (uint32_t)n;
        return true;
    }
    if (strcmp(name, "--steps") == 0 && n > 0) {
        opt->sim.steps_max = n;
        return true;
    }
    return false;
}

static bool parse_flag(struct options *opt, const char *name)
{
    struct {
        const char *name;
        bool *flag;
    } flags[] = {{"--twice", &opt->twice},
                 {"--json", &opt->json},
                 {"--coverage", &opt->coverage},
                 {"--no-shrink", &opt->no_shrink},
                 {"--hashes", &opt->hashes}};
    for (size_t i = 0; i < HADB_LEN(flags); i++) {
        if (strcmp(flags[i].name, name) == 0) {
            *flags[i].flag = true;
            return true;
        }
    }
    return false;
}

static void list_faults(void)
{
    for (unsigned i = 0; i < SIM_F_BITS; i++) {
        printf("%-16s %s\n", sim_fault_names[i], sim_fault_texts[i]);
    }
}

/* 0 run, 1 done already, -1 wrong usage. */
static int parse(int argc, char **argv, struct options *opt)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            usage(stdout);
            return 1;
        }
        if (strcmp(argv[i], "--list-faults") == 0) {
            list_faults();
            return 1;
        }
        if (parse_flag(opt, argv[i])) {
            continue;
        }
        if (i + 1 >= argc || !parse_value(opt, argv[i], argv[i + 1])) {
            fprintf(stderr, "hadb-sim: bad option or value: %s %s\n", argv[i],
                    i + 1 < argc ? argv[i + 1] : "");
            usage(stderr);
            return -1;
        }
        i++;
    }
    if (opt->to == 0 && opt->seeds_file == NULL) {
        fprintf(stderr, "hadb-sim: which seeds?\n");
        usage(stderr);
        return -1;
    }
    return 0;
}

/* ---- reports ---- */

static void print_coverage(bool json)
{
    for (unsigned i = 0; i < SIM_S_LEN; i++) {
        if (json) {
            printf("{\"situation\":\"%s\",\"times\":%" PRIu64 "}\n", sim_sometimes_names[i],
                   sometimes[i]);
        } else {
            printf("%10" PRIu64 "  %s\n", sometimes[i], sim_sometimes_names[i]);
        }
    }
}

static int check_need(const char *path)
{
    char line[128];
    int missing = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "hadb-sim: cannot read %s: %s\n", path, strerror(errno));
        return 1;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, " \t\r\n#")] = '\0';
        unsigned i = 0;
        while (i < SIM_S_LEN && strcmp(sim_sometimes_names[i], line) != 0) {
            i++;
        }
        if (line[0] != '\0' && (i == SIM_S_LEN || sometimes[i] == 0)) {
            printf("situation never met: %s\n", line);
            missing++;
        }
    }
    fclose(file);
    return missing;
}

static void print_total(const struct options *opt, const struct total *t)
{
    if (opt->json) {
        printf("{\"seeds\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"steps\":%" PRIu64
               ",\"requests\":%" PRIu64 ",\"trace\":\"%016" PRIx64 "\",\"seconds\":%.1f}\n",
               t->seeds, t->failed, t->steps, t->requests, t->hash, t->seconds);
        return;
    }
    printf("%" PRIu64 " seeds, %" PRIu64 " failed, %" PRIu64 " steps, %" PRIu64
           " requests, trace %016" PRIx64 ", %.1f s (%.1f seeds/s)\n",
           t->seeds, t->failed, t->steps, t->requests, t->hash, t->seconds,
           t->seconds > 0 ? (double)t->seeds / t->seconds : 0);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int run_file(const struct options *opt, struct total *total)
{
    char line[256];
    FILE *file = fopen(opt->seeds_file, "r");
    if (file == NULL) {
        fprintf(stderr, "hadb-sim: cannot read %s: %s\n", opt->seeds_file, strerror(errno));
        return 2;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        uint64_t seed;
        line[strcspn(line, " \t\r\n#")] = '\0';
        if (parse_number(line, &seed)) {
            one_seed(seed, opt, total);
        }
    }
    fclose(file);
    return 0;
}

int main(int argc, char **argv)
{
    struct options opt = {.sim = {.steps_max = STEPS_DEFAULT,
                                  .rules = HADB_RULES_ALL,
                                  .faults = SIM_FAULTS_ALL,
                                  .out = stdout}};
    struct total total = {0};
    int parsed = parse(argc, argv, &opt);
    if (parsed != 0) {
        return parsed > 0 ? 0 : 2;
    }
    double started = seconds();
    if (opt.seeds_file != NULL && run_file(&opt, &total) != 0) {
        return 2;
    }
    bool stop = false;
    for (uint64_t seed = opt.from; opt.to != 0 && seed <= opt.to && !stop; seed++) {
        one_seed(seed, &opt, &total);
        stop = total.failed > 0 && (opt.off != NULL || total.failed >= 5);
    }
    total.seconds = seconds() - started;
    if (opt.coverage) {
        print_coverage(opt.json);
    }
    int missing = opt.need != NULL ? check_need(opt.need) : 0;
    print_total(&opt, &total);
    return total.failed > 0 || missing > 0 ? 1 : 0;
}
