/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb doctor: are these stores fit, how fast are they, what would they cost? The report goes to standard output, as text or
 * as one JSON object; why a store could not be asked goes to standard error as well.
 *
 * Thread: one; SIGINT and SIGTERM end the examination, which removes what it wrote first.
 */
#include <signal.h>
#include <string.h>

#include "cli/cli.h"
#include "hadb/doctor.h"

enum {
    OPT_STORE = CLI_OPT_OWN,
    OPT_LEASE,
    OPT_DATABASES,
    OPT_NODES,
    OPT_TTL,
    OPT_BATCH,
    OPT_SNAPSHOT,
    OPT_ROUNDS
};

struct doctor_args {
    struct hadb_doctor_options options;
    bool json;
};

static struct hadb_cancel stop_asked;

static void on_signal(int number)
{
    (void)number;
    __atomic_store_n(&stop_asked.flag, 1, __ATOMIC_RELEASE);
}

/* --- the command line --------------------------------------------------------------------------- */

static int take_number(const char *name, uint32_t lo, uint32_t hi, uint32_t *out)
{
    uint64_t value = 0;
    int r = cli_number(&cli_doctor, name, optarg, lo, hi, &value);
    *out = r == 0 ? (uint32_t)value : *out;
    return r;
}

static int take_option(struct doctor_args *args, int option)
{
    struct hadb_doctor_options *o = &args->options;
    switch (option) {
    case OPT_STORE:
        o->storage_url = optarg;
        return 0;
    case OPT_LEASE:
        o->lease_url = optarg;
        return 0;
    case CLI_OPT_JSON:
        args->json = true;
        return 0;
    case OPT_DATABASES:
        return take_number("databases", 1, HADB_NODE_DATABASES_MAX, &o->workload.databases);
    case OPT_NODES:
        return take_number("nodes", 1, 1000, &o->workload.nodes);
    case OPT_TTL:
        return take_number("ttl-ms", 100, 600000, &o->workload.ttl_ms);
    case OPT_BATCH:
        return take_number("batch-interval-ms", 1, 86400000, &o->workload.batch_interval_ms);
    case OPT_SNAPSHOT:
        return take_number("snapshot-slots", 1, 1u << 30, &o->workload.snapshot_slots);
    case OPT_ROUNDS:
        return take_number("rounds", 1, HADB_DOCTOR_ROUNDS_MAX, &o->rounds);
    default:
        return CLI_USAGE;
    }
}

static int parse(int argc, char **argv, struct doctor_args *args)
{
    static const struct option options[] = {
        {"store", required_argument, NULL, OPT_STORE},
        {"lease", required_argument, NULL, OPT_LEASE},
        {"databases", required_argument, NULL, OPT_DATABASES},
        {"nodes", required_argument, NULL, OPT_NODES},
        {"ttl-ms", required_argument, NULL, OPT_TTL},
        {"batch-interval-ms", required_argument, NULL, OPT_BATCH},
        {"snapshot-slots", required_argument, NULL, OPT_SNAPSHOT},
        {"rounds", required_argument, NULL, OPT_ROUNDS},
        {"json", no_argument, NULL, CLI_OPT_JSON},
        {0},
    };
    int option;
    while ((option = cli_option(&cli_doctor, argc, argv, options)) != -1) {
        int r = take_option(args, option);
        if (r != 0) {
            return r;
        }
    }
    if (optind < argc) {
        return cli_usage(&cli_doctor, "'%s' is one argument too many", argv[optind]);
    }
    return args->options.storage_url || args->options.lease_url
               ? 0
               : cli_usage(&cli_doctor, "needs --store URL, --lease URL, or both");
}

/* A URL that can never work is an error of the command line; opening sends nothing. */
static int check_urls(const struct hadb_doctor_options *o)
{
    struct hadb_error err = {0};
    struct hadb_storage storage = {0};
    struct hadb_lease lease = {0};
    struct hadb_env quiet = *hadb_env_host();
    quiet.log_level = HADB_LOG_ERROR; /* warnings come when they are opened for good */
    int r = o->storage_url ? hadb_storage_open(o->storage_url, &quiet, &storage, &err) : 0;
    hadb_storage_close(&storage);
    if (r == 0 && o->lease_url) {
        r = hadb_lease_open(o->lease_url, &quiet, &lease, &err);
        hadb_lease_close(&lease);
    }
    return r == 0 ? 0 : cli_fail_error(&err);
}

/* --- as JSON ------------------------------------------------------------------------------------ */

static const struct {
    uint32_t bit;
    const char *name;
} capabilities[] = {
    {HADB_STORAGE_CAP_REPLACE, "replace"},
    {HADB_STORAGE_CAP_DURABLE, "durable"},
    {HADB_STORAGE_CAP_SHARED, "shared"},
};
#define CAPABILITIES_LEN (sizeof capabilities / sizeof capabilities[0])

static json_t *checks_json(const struct hadb_doctor_store *store)
{
    json_t *list = json_array();
    for (size_t i = 0; i < store->checks_len; i++) {
        const struct hadb_doctor_check *check = &store->checks[i];
        json_t *one = json_pack("{s:s, s:s, s:s}", "name", check->name, "status",
                                hadb_doctor_status_name(check->status), "text", check->text);
        if (check->means[0]) {
            json_object_set_new(one, "means", json_string(check->means));
        }
        if (check->remedy[0]) {
            json_object_set_new(one, "change", json_string(check->remedy));
        }
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *latencies_json(const struct hadb_doctor_store *store)
{
    json_t *object = json_object();
    for (size_t i = 0; i < store->latencies_len; i++) {
        const struct hadb_doctor_latency *l = &store->latencies[i];
        json_object_set_new(object, l->name,
                            json_pack("{s:I, s:I, s:I, s:I}", "count", (json_int_t)l->count,
                                      "p50_us", (json_int_t)l->p50_us, "p99_us",
                                      (json_int_t)l->p99_us, "max_us", (json_int_t)l->max_us));
    }
    return object;
}

static json_t *text_or_null(const char *text)
{
    return text[0] ? json_string(text) : json_null();
}

static json_t *store_json(const struct hadb_doctor_store *store, bool is_storage)
{
    if (!store->examined) {
        return json_null();
    }
    json_t *error = json_null();
    if (store->err.code != 0) {
        error = json_pack("{s:s, s:s}", "error", hadb_code_name(store->err.code), "message",
                          store->err.message);
    }
    json_t *out = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "url", store->url, "error", error,
                            "checks", checks_json(store), "latencies", latencies_json(store),
                            "wrote", text_or_null(store->wrote), "left", text_or_null(store->left));
    if (out != NULL && is_storage) {
        json_t *caps = json_array();
        for (size_t i = 0; i < CAPABILITIES_LEN; i++) {
            if (store->caps & capabilities[i].bit) {
                json_array_append_new(caps, json_string(capabilities[i].name));
            }
        }
        json_object_set_new(out, "capabilities", caps);
        json_object_set_new(out, "clock_offset_s",
                            store->usage.clock_known
                                ? json_integer((json_int_t)store->usage.clock_offset_s)
                                : json_null());
        json_object_set_new(out, "sent",
                            json_pack("{s:I, s:I, s:I}", "puts", (json_int_t)store->usage.puts,
                                      "gets", (json_int_t)store->usage.gets, "deletes",
                                      (json_int_t)store->usage.deletes));
    }
    return out;
}

static json_t *estimate_json(const struct hadb_doctor_estimate *e)
{
    const struct hadb_doctor_workload *w = &e->workload;
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "databases",
        (json_int_t)w->databases, "nodes", (json_int_t)w->nodes, "ttl_ms", (json_int_t)w->ttl_ms,
        "batch_interval_ms", (json_int_t)w->batch_interval_ms, "snapshot_slots",
        (json_int_t)w->snapshot_slots, "batches", (json_int_t)e->batches, "snapshots",
        (json_int_t)e->snapshots, "renewals", (json_int_t)e->renewals, "storage_puts",
        (json_int_t)e->storage_puts, "storage_gets", (json_int_t)e->storage_gets, "lease_puts",
        (json_int_t)e->lease_puts, "storage_cost_nusd", (json_int_t)e->storage_cost_nusd,
        "lease_cost_nusd", (json_int_t)e->lease_cost_nusd);
}

/* "--store 'URL' --lease 'URL' --ttl-ms N --window N": what may be shown of it. */
static void settings_text(const struct hadb_doctor_report *report, char *out, size_t size)
{
    int at = 0;
    out[0] = '\0';
    if (report->storage.examined) {
        at += snprintf(out + at, size - (size_t)at, "--store '%s' ", report->storage.url);
    }
    if (report->lease.examined) {
        at += snprintf(out + at, size - (size_t)at, "--lease '%s' ", report->lease.url);
    }
    snprintf(out + at, size - (size_t)at, "--ttl-ms %u --window %u",
             report->estimate.workload.ttl_ms, report->window);
}

static int print_json(const struct hadb_doctor_report *report)
{
    char settings[2 * sizeof report->storage.url + 100];
    settings_text(report, settings, sizeof settings);
    return cli_print_json(json_pack(
        "{s:b, s:o, s:o, s:o, s:{s:s, s:I, s:I, s:I}}", "passed", report->passed, "storage",
        store_json(&report->storage, true), "lease", store_json(&report->lease, false), "estimate",
        estimate_json(&report->estimate), "settings", "options", settings, "ttl_ms",
        (json_int_t)report->ttl_ms, "ttl_ms_min", (json_int_t)report->ttl_ms_min, "window",
        (json_int_t)report->window));
}

/* --- as text ------------------------------------------------------------------------------------ */

static void print_checks(const struct hadb_doctor_store *store)
{
    static const char *const marks[] = {
        [HADB_DOCTOR_NOT_RUN] = "----",
        [HADB_DOCTOR_PASSED] = "pass",
        [HADB_DOCTOR_FAILED] = "FAIL",
        [HADB_DOCTOR_NOTED] = "note",
    };
    for (size_t i = 0; i < store->checks_len; i++) {
        const struct hadb_doctor_check *check = &store->checks[i];
        printf("  %s  %-13s %s\n", marks[check->status], check->name, check->text);
        if (check->means[0]) {
            printf("          means:  %s\n", check->means);
        }
        if (check->remedy[0]) {
            printf("          change: %s\n", check->remedy);
        }
    }
}

static void print_latencies(const struct hadb_doctor_store *store)
{
    if (store->latencies_len > 0) {
        printf("  %-16s %6s %10s %10s %10s\n", "request", "count", "p50 ms", "p99 ms", "max ms");
    }
    for (size_t i = 0; i < store->latencies_len; i++) {
        const struct hadb_doctor_latency *l = &store->latencies[i];
        printf("  %-16s %6u %10.3f %10.3f %10.3f\n", l->name, l->count, l->p50_us / 1e3,
               l->p99_us / 1e3, l->max_us / 1e3);
    }
}

static void print_store(const char *what, const struct hadb_doctor_store *store, bool is_storage)
{
    if (!store->examined) {
        return;
    }
    printf("%s %s\n", what, store->url);
    if (store->err.code != 0) {
        printf("  FAIL  %s\n", store->err.message);
    }
    print_checks(store);
    print_latencies(store);
    if (is_storage && store->wrote[0]) {
        printf("  can:");
        for (size_t i = 0; i < CAPABILITIES_LEN; i++) {
            printf("%s%s", store->caps & capabilities[i].bit ? " " : " no-", capabilities[i].name);
        }
        printf("\n");
    }
    if (store->left[0] && !is_storage && store->err.code == 0) {
        printf("  three empty records stay, since nothing deletes a lease: %s*\n", store->left);
    } else if (store->left[0]) {
        printf("  wrote below %s; not removed: %s*\n", store->wrote, store->left);
    } else if (store->wrote[0]) {
        printf("  wrote below %s; all of it is removed\n", store->wrote);
    }
    printf("\n");
}

static void print_cost(const char *what, uint64_t puts, uint64_t gets, bool priced, uint64_t nusd)
{
    printf("  %-8s %12llu writes %12llu reads   ", what, (unsigned long long)puts,
           (unsigned long long)gets);
    if (priced) {
        printf("%10.2f USD\n", (double)nusd / 1e9);
    } else {
        printf("  no price per request\n");
    }
}

static void print_estimate(const struct hadb_doctor_report *report)
{
    const struct hadb_doctor_estimate *e = &report->estimate;
    const struct hadb_doctor_workload *w = &e->workload;
    printf("in 30 days, with %u nodes, ttl %u ms, and %u databases of a log entry every %u ms:\n",
           w->nodes, w->ttl_ms, w->databases, w->batch_interval_ms);
    if (report->storage.examined) {
        print_cost("storage", e->storage_puts, e->storage_gets, report->storage.priced,
                   e->storage_cost_nusd);
    }
    if (report->lease.examined) {
        print_cost("lease", e->lease_puts, 0, report->lease.priced, e->lease_cost_nusd);
    }
    printf("  databases that are not written to cost nothing\n\n");
}

static void print_text(const struct hadb_doctor_report *report)
{
    char settings[2 * sizeof report->storage.url + 100];
    settings_text(report, settings, sizeof settings);
    print_store("storage", &report->storage, true);
    print_store("lease", &report->lease, false);
    if (report->storage.err.code != 0 || report->lease.err.code != 0) {
        return; /* no settings for what could not be asked */
    }
    print_estimate(report);
    printf("use: hadb node … %s\n", settings);
    if (report->lease.latencies_len > 0) {
        printf(
            "  with a ttl below %u ms renewals would miss their deadlines; %u ms is recommended\n",
            report->ttl_ms_min, report->ttl_ms);
    }
    if (strstr(settings, "***") != NULL) {
        printf("  *** stands for what you wrote there; password_file= keeps it out of sight\n");
    }
}

/* --- the verdict -------------------------------------------------------------------------------- */

static unsigned failures(const struct hadb_doctor_store *store)
{
    unsigned n = 0;
    for (size_t i = 0; i < store->checks_len; i++) {
        n += store->checks[i].status == HADB_DOCTOR_FAILED;
    }
    return n;
}

/* Why a store was not examined to the end; the exit code. */
static int complain(const char *what, const struct hadb_doctor_store *store)
{
    struct hadb_error err = store->err;
    if (err.code == 0) {
        return CLI_OK;
    }
    bool silent = err.code == HADB_ETIMEDOUT || err.code == HADB_EUNAVAIL;
    if (silent) {
        err.code = HADB_EUNAVAIL; /* nothing is left open */
    }
    char message[CLI_MESSAGE_BYTES];
    snprintf(message, sizeof message, "%s %s %s: %s", silent ? "could not reach" : "cannot use",
             what, store->url, err.message);
    return cli_fail_reply(cli_exit_of(&err), hadb_code_name(err.code), NULL, message);
}

static int verdict(const struct hadb_doctor_report *report)
{
    unsigned failed = failures(&report->storage) + failures(&report->lease);
    int storage = complain("storage", &report->storage);
    int lease = complain("lease", &report->lease);
    if (failed > 0) {
        return cli_fail(CLI_FAILED, "%u check%s failed", failed, failed == 1 ? "" : "s");
    }
    return storage != CLI_OK ? storage : lease;
}

static int run_doctor(int argc, char **argv)
{
    static struct hadb_doctor_report report;
    struct doctor_args args = {.options = HADB_DOCTOR_OPTIONS_INIT};
    struct hadb_error err = {0};
    args.options.cancel = &stop_asked;
    int r = parse(argc, argv, &args);
    r = r != 0 ? r : check_urls(&args.options);
    if (r != 0) {
        return r;
    }
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    sigaction(SIGINT, &action, NULL); /* a second one ends it at once */
    sigaction(SIGTERM, &action, NULL);
    if (hadb_doctor_run(&args.options, &report, &err) != 0) {
        return cli_fail_error(&err);
    }
    if (args.json) {
        r = print_json(&report);
    } else {
        print_text(&report);
    }
    return r != 0 ? r : verdict(&report);
}

const struct cli_command cli_doctor = {
    .name = "doctor",
    .usage = "--store URL --lease URL [--databases N] [--nodes N] [--ttl-ms N] [options]",
    .summary = "examine a storage and a lease store: promises, latencies, cost, settings",
    .help =
        "Writes below probe/ in the storage and doctor/ in the lease store, and removes it; a "
        "lease store\n"
        "that has no deletion keeps three empty records. Exit code 0: all checks passed; 1: a "
        "check failed;\n"
        "2, 5, 8: a store could not be asked (docs/doctor.md).\n\n"
        "  --store URL         storage, as of hadb node\n"
        "  --lease URL         lease store, as of hadb node; one of the two may be left out\n"
        "  --databases N       for the estimate: databases that are written to (default 1)\n"
        "  --nodes N           for the estimate (default 3)\n"
        "  --ttl-ms N          for the estimate and for a check (default: what is recommended)\n"
        "  --batch-interval-ms N   time between two log entries of a database (default 1000)\n"
        "  --snapshot-slots N  log entries between two snapshots (default 4096)\n"
        "  --rounds N          requests of each kind that are timed, 1 to 1000 (default 100)\n"
        "  --json              one JSON object on stdout; errors, too, but on stderr\n",
    .run = run_doctor,
};
