/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb-mc: explicit-state model check of the production protocol machine (protocol 4.14 to 4.17).
 *
 * Owns       the command line, and one child process per configuration, a few at a time.
 * Happy path every configuration explored, no violation: exit 0.
 * Failure    a violation: its shortest counterexample is printed, exit 1. Wrong usage: exit 2.
 *
 * Thread: one per process.
 */
#include "sim/mc.h"
#include "base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX 16
#define STATES_DEFAULT 8000000u
#define MC_CONFIG_HARMLESS "hand-off-snapshot" /* for a rule that is never missed */

struct options {
    uint32_t rules;
    const struct mc_rule *off;
    struct mc_config custom;
    bool has_custom;
    const struct mc_config *config; /* NULL = all */
    uint64_t states_max;            /* 0 = as configured */
    double seconds_max;
    unsigned jobs;
    bool json;
};

struct job {
    const struct mc_config *config;
    pid_t pid; /* 0 = free */
    int fd;    /* the result comes here */
};

struct total {
    uint64_t states, transitions, healed;
    unsigned configs, violated, failed;
};

static void usage(FILE *out)
{
    fprintf(
        out,
        "usage: hadb-mc [--off RULE] [--config NAME | --config KEY=N,KEY=N...]\n"
        "               [--max-states N] [--seconds N] [--jobs N] [--json]\n"
        "       hadb-mc --list-rules | --list-configs | --help\n"
        "Explores all interleavings of small worlds and checks the protocol's invariants.\n"
        "  --off RULE      switch a safety rule off; a counterexample is then expected\n"
        "  --config        one named configuration (default: all), or P,T,S,W (processes, terms,\n"
        "                  slots, window), or keys as printed by --list-configs\n"
        "  --max-states N  worlds per configuration, at most\n"
        "  --seconds N     seconds per configuration, at most\n"
        "  --jobs N        configurations at a time (default 2)\n"
        "Exit: 0 no violation, 1 counterexample found, 2 wrong usage or out of memory.\n");
}

/* ---- configurations by hand ---- */

struct key {
    const char *name;
    size_t offset;
};
#define KEY(field) {#field, offsetof(struct mc_config, field)}
static const struct key keys[] = {
    KEY(procs),   KEY(terms),    KEY(slots),    KEY(window),   KEY(writes),      KEY(crashes),
    KEY(lost),    KEY(suspects), KEY(reads),    KEY(handoffs), KEY(resigns),     KEY(snapshots),
    KEY(streams), KEY(genesis),  KEY(lazy),     KEY(batch),    KEY(disk_losses), KEY(overwrites),
    KEY(heal),    KEY(deaf),     KEY(verdicts), KEY(clones),
};

static uint8_t *field_of(struct mc_config *config, const struct key *key)
{
    return (uint8_t *)config + key->offset;
}

static bool parse_pair(struct mc_config *config, const char *name, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    for (size_t i = 0; i < HADB_LEN(keys); i++) {
        if (strcmp(keys[i].name, name) == 0 && *value != '\0' && *end == '\0' && n < 100) {
            *field_of(config, &keys[i]) = (uint8_t)n;
            return true;
        }
    }
    return false;
}

static bool in_range(const struct mc_config *config)
{
    return config->procs >= 1 && config->procs <= MC_PROCS_MAX && config->terms >= 1 &&
           config->terms + 5 <= MC_TERMS_MAX && config->slots >= 1 &&
           config->slots + 3 <= MC_SLOTS_MAX && config->window >= 1 &&
           config->window <= HADB_WINDOW_MAX && config->writes + 3 <= MC_TXS_MAX &&
           config->reads <= MC_READS_MAX && config->crashes < 8;
}

/* "2,3,3,1" or "procs=2,terms=3,..." on top of modest defaults. */
static bool parse_config(const char *text, struct mc_config *config)
{
    *config = (struct mc_config){.name = "custom",
                                 .about = "from the command line",
                                 .procs = 2,
                                 .terms = 3,
                                 .slots = 3,
                                 .window = 1,
                                 .writes = 2,
                                 .suspects = 2};
    char copy[256];
    if (strlen(text) >= sizeof copy) {
        return false;
    }
    strcpy(copy, text);
    size_t index = 0;
    char *save = NULL;
    for (char *part = strtok_r(copy, ",", &save); part != NULL;
         part = strtok_r(NULL, ",", &save), index++) {
        char *eq = strchr(part, '=');
        if (eq != NULL) {
            *eq = '\0';
            if (!parse_pair(config, part, eq + 1)) {
                return false;
            }
        } else if (index >= 4 || !parse_pair(config, keys[index].name, part)) {
            return false;
        }
    }
    return in_range(config);
}

static void list_rules(void)
{
    for (size_t i = 0; i < mc_rules_len; i++) {
        const char *config = mc_rule_config(&mc_rules[i]);
        printf("%-18s %s [%s]\n", mc_rules[i].name, mc_rules[i].text,
               config ? config : "no counterexample exists; see sim/README.md");
    }
}

static void list_configs(void)
{
    for (size_t i = 0; i < mc_configs_len; i++) {
        struct mc_config config = mc_configs[i];
        printf("%-18s %s\n%18s ", config.name, config.about, "");
        for (size_t k = 0; k < HADB_LEN(keys); k++) {
            uint8_t value = *field_of(&config, &keys[k]);
            if (value != 0) {
                printf(" %s=%d", keys[k].name, value);
            }
        }
        printf("\n");
    }
}

/* ---- running ---- */

static void start_job(struct job *job, const struct mc_config *config, const struct options *opt)
{
    int fds[2];
    fflush(stdout);
    if (pipe(fds) != 0) {
        perror("hadb-mc: pipe");
        exit(2);
    }
    job->config = config;
    job->fd = fds[0];
    job->pid = fork();
    if (job->pid < 0) {
        perror("hadb-mc: fork");
        exit(2);
    }
    if (job->pid > 0) {
        close(fds[1]);
        return;
    }
    close(fds[0]);
    uint64_t states = opt->states_max       ? opt->states_max
                      : config->states != 0 ? config->states
                                            : STATES_DEFAULT;
    struct mc_result result;
    int status = mc_search(config, opt->rules, states, opt->seconds_max, &result);
    ssize_t n = write(fds[1], &result, sizeof result);
    fflush(stdout);
    _exit(n == sizeof result ? status : 2);
}

static void print_result(const struct mc_config *config, const struct mc_result *r, bool json)
{
    const char *end = r->violated ? "VIOLATION" : r->exhausted ? "exhausted" : "bound reached";
    if (json) {
        printf("{\"config\":\"%s\",\"states\":%" PRIu64 ",\"transitions\":%" PRIu64
               ",\"depth\":%" PRIu32 ",\"healed\":%" PRIu64 ",\"end\":\"%s\",\"seconds\":%.1f}\n",
               config->name, r->states, r->transitions, r->depth, r->healed, end, r->seconds);
    } else {
        printf("%-18s %9" PRIu64 " states %10" PRIu64 " transitions  depth %3" PRIu32 "  %-13s "
               "%6.1f s %5" PRIu64 " MiB%s\n",
               config->name, r->states, r->transitions, r->depth, end, r->seconds, r->bytes >> 20,
               r->healed ? "  healing checked" : "");
    }
    fflush(stdout);
}

static void finish_job(struct job *job, const struct options *opt, struct total *total)
{
    struct mc_result result;
    int status = 0;
    ssize_t n = read(job->fd, &result, sizeof result);
    close(job->fd);
    while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR) {
    }
    job->pid = 0;
    total->configs++;
    if (n != sizeof result) {
        fprintf(stderr, "hadb-mc: configuration %s ended early\n", job->config->name);
        total->failed++;
        return;
    }
    print_result(job->config, &result, opt->json);
    total->states += result.states;
    total->transitions += result.transitions;
    total->healed += result.healed;
    total->violated += result.violated;
}

/* Waits until one of the running jobs has something to say. */
static struct job *next_done(struct job *jobs, unsigned len)
{
    struct pollfd fds[JOBS_MAX];
    for (unsigned i = 0; i < len; i++) {
        fds[i] = (struct pollfd){.fd = jobs[i].pid ? jobs[i].fd : -1, .events = POLLIN};
    }
    while (poll(fds, len, -1) < 0 && errno == EINTR) {
    }
    for (unsigned i = 0; i < len; i++) {
        if (jobs[i].pid != 0 && fds[i].revents != 0) {
            return &jobs[i];
        }
    }
    return NULL;
}

static void run_all(const struct options *opt, struct total *total)
{
    struct job jobs[JOBS_MAX] = {0};
    size_t next = 0;
    unsigned running = 0;
    size_t end = opt->config != NULL ? 1 : mc_configs_len;
    while (next < end || running > 0) {
        for (unsigned i = 0; i < opt->jobs && next < end; i++) {
            if (jobs[i].pid == 0) {
                start_job(&jobs[i], opt->config ? opt->config : &mc_configs[next], opt);
                next++;
                running++;
            }
        }
        struct job *done = next_done(jobs, opt->jobs);
        if (done != NULL) {
            finish_job(done, opt, total);
            running--;
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

static const char *parse_value(struct options *opt, const char *name, const char *value)
{
    uint64_t n = 0;
    if (strcmp(name, "--off") == 0) {
        opt->off = mc_rule_find(value);
        return opt->off ? NULL : "no such rule (see --list-rules)";
    }
    if (strcmp(name, "--config") == 0) {
        opt->config = mc_config_find(value);
        if (opt->config == NULL && parse_config(value, &opt->custom)) {
            opt->config = &opt->custom;
        }
        return opt->config ? NULL : "no such configuration (see --list-configs)";
    }
    if (!parse_number(value, &n)) {
        return "not a number";
    }
    if (strcmp(name, "--max-states") == 0) {
        opt->states_max = n;
    } else if (strcmp(name, "--seconds") == 0) {
        opt->seconds_max = (double)n;
    } else if (strcmp(name, "--jobs") == 0 && n >= 1 && n <= JOBS_MAX) {
        opt->jobs = (unsigned)n;
    } else {
        return "out of range, or no such option";
    }
    return NULL;
}

static int parse(int argc, char **argv, struct options *opt)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            usage(stdout);
            return 1;
        }
        if (strcmp(argv[i], "--list-rules") == 0) {
            list_rules();
            return 1;
        }
        if (strcmp(argv[i], "--list-configs") == 0) {
            list_configs();
            return 1;
        }
        if (strcmp(argv[i], "--json") == 0) {
            opt->json = true;
            continue;
        }
        if (i + 1 >= argc) {
            usage(stderr);
            return -1;
        }
        const char *error = parse_value(opt, argv[i], argv[i + 1]);
        if (error != NULL) {
            fprintf(stderr, "hadb-mc: %s %s: %s\n", argv[i], argv[i + 1], error);
            return -1;
        }
        i++;
    }
    return 0;
}

static void print_total(const struct options *opt, const struct total *total)
{
    if (opt->json) {
        printf("{\"configs\":%u,\"states\":%" PRIu64 ",\"transitions\":%" PRIu64
               ",\"healed\":%" PRIu64 ",\"violations\":%u}\n",
               total->configs, total->states, total->transitions, total->healed, total->violated);
        return;
    }
    printf("%u configurations, %" PRIu64 " states, %" PRIu64
           " transitions, healing checked in %" PRIu64 " states: %s\n",
           total->configs, total->states, total->transitions, total->healed,
           total->violated ? "VIOLATED" : "no violation");
}

int main(int argc, char **argv)
{
    struct options opt = {.rules = HADB_RULES_ALL, .jobs = 2};
    struct total total = {0};
    int parsed = parse(argc, argv, &opt);
    if (parsed != 0) {
        return parsed > 0 ? 0 : 2;
    }
    if (opt.off != NULL) {
        opt.rules &= ~opt.off->bit;
        const char *config = mc_rule_config(opt.off);
        if (opt.config == NULL) {
            opt.custom = *mc_config_find(config ? config : MC_CONFIG_HARMLESS);
            opt.custom.heal = false; /* the shortest way to the damage itself is wanted */
            opt.config = &opt.custom;
        }
        if (!opt.json) {
            printf("without rule %s: %s\n", opt.off->name, opt.off->text);
        }
    }
    run_all(&opt, &total);
    print_total(&opt, &total);
    return total.failed ? 2 : total.violated ? 1 : 0;
}
