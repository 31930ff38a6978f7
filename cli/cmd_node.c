/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb node: runs a node in the foreground until SIGTERM or SIGINT. One ready line on stdout; the log, role changes included, on stderr.
 *
 * Threads: the databases are opened by a few at a time, which end before the ready line; they wait for disk and storage.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

#define DATABASES_MAX 1024u
#define SHUTDOWN_MS_DEFAULT 5000u
#define OPENERS_MAX 8u /* threads that open databases */

enum {
    OPT_NAME = CLI_OPT_OWN,
    OPT_DATA,
    OPT_STORE,
    OPT_LEASE,
    OPT_LISTEN,
    OPT_ADVERTISE,
    OPT_TTL,
    OPT_SHUTDOWN,
    OPT_WINDOW,
    OPT_WORKERS,
    OPT_NEVER_LEAD,
    OPT_VERBOSE
};

struct node_args {
    struct hadb_node_options options;
    struct hadb_env env;
    const char *databases[DATABASES_MAX]; /* NAME=kv[,option…] */
    size_t databases_len;
    const char *token_file;
    uint32_t shutdown_ms;
};

/* One --db, taken apart: the name ends in a NUL inside @text, the engine lies behind it. */
struct database {
    char text[512];
    struct hadb_db_options options;
};

static int take_number(const char *name, const char *text, uint32_t lo, uint32_t hi, uint32_t *out)
{
    uint64_t value = 0;
    int r = cli_number(&cli_node, name, text, lo, hi, &value);
    *out = r == 0 ? (uint32_t)value : *out;
    return r;
}

static int take_option(struct node_args *args, int option)
{
    struct hadb_node_options *o = &args->options;
    switch (option) {
    case OPT_NAME:
        o->name = optarg;
        return 0;
    case OPT_DATA:
        o->data_dir = optarg;
        return 0;
    case OPT_STORE:
        o->storage_url = optarg;
        return 0;
    case OPT_LEASE:
        o->lease_url = optarg;
        return 0;
    case OPT_LISTEN:
        o->listen = optarg;
        return 0;
    case OPT_ADVERTISE:
        o->advertise = optarg;
        return 0;
    case CLI_OPT_TOKEN_FILE:
        args->token_file = optarg;
        return 0;
    case OPT_NEVER_LEAD:
        o->never_lead = true;
        return 0;
    case OPT_VERBOSE:
        args->env.log_level = HADB_LOG_DEBUG;
        return 0;
    case OPT_TTL:
        return take_number("ttl-ms", optarg, 100, 600000, &o->ttl_ms);
    case OPT_WINDOW:
        return take_number("window", optarg, 1, 8, &o->window);
    case OPT_WORKERS:
        return take_number("workers", optarg, 1, 8, &o->worker_threads);
    case OPT_SHUTDOWN:
        return take_number("shutdown-ms", optarg, 0, 600000, &args->shutdown_ms);
    case CLI_OPT_DB:
        if (args->databases_len == DATABASES_MAX) {
            return cli_usage(&cli_node, "more than %u databases", DATABASES_MAX);
        }
        args->databases[args->databases_len++] = optarg;
        return 0;
    default:
        return CLI_USAGE;
    }
}

static int parse(int argc, char **argv, struct node_args *args)
{
    static const struct option options[] = {
        {"name", required_argument, NULL, OPT_NAME},
        {"data", required_argument, NULL, OPT_DATA},
        {"store", required_argument, NULL, OPT_STORE},
        {"lease", required_argument, NULL, OPT_LEASE},
        {"listen", required_argument, NULL, OPT_LISTEN},
        {"advertise", required_argument, NULL, OPT_ADVERTISE},
        {"db", required_argument, NULL, CLI_OPT_DB},
        {"ttl-ms", required_argument, NULL, OPT_TTL},
        {"token-file", required_argument, NULL, CLI_OPT_TOKEN_FILE},
        {"window", required_argument, NULL, OPT_WINDOW},
        {"workers", required_argument, NULL, OPT_WORKERS},
        {"shutdown-ms", required_argument, NULL, OPT_SHUTDOWN},
        {"never-lead", no_argument, NULL, OPT_NEVER_LEAD},
        {"verbose", no_argument, NULL, OPT_VERBOSE},
        {0},
    };
    int option;
    while ((option = cli_option(&cli_node, argc, argv, options)) != -1) {
        int r = take_option(args, option);
        if (r != 0) {
            return r;
        }
    }
    const struct hadb_node_options *o = &args->options;
    if (optind < argc) {
        return cli_usage(&cli_node, "'%s' is one argument too many", argv[optind]);
    }
    if (!o->name || !o->data_dir || !o->storage_url || !o->lease_url) {
        return cli_usage(&cli_node, "needs --name, --data, --store and --lease");
    }
    return args->databases_len ? 0 : cli_usage(&cli_node, "needs at least one --db NAME=kv");
}

/* One option behind the engine: ack=MODE, snapshot-slots=N, grace-ms=N, sync-ms=N, clone_guard=on|off, no-snapshots,
 * no-fast-suspicion. */
static int db_option(const char *spec, char *text, struct hadb_db_options *options)
{
    struct hadb_error err = {0};
    char *value = strchr(text, '=');
    if (value != NULL) {
        *value++ = '\0';
    }
    if (value == NULL && strcmp(text, "no-snapshots") == 0) {
        options->no_snapshots = true;
    } else if (value == NULL && strcmp(text, "no-fast-suspicion") == 0) {
        options->no_fast_suspicion = true;
    } else if (value != NULL && strcmp(text, "ack") == 0) {
        return hadb_ack_parse(value, &options->ack, &err) == 0
                   ? 0
                   : cli_usage(&cli_node, "--db '%s': %s", spec, err.message);
    } else if (value != NULL && strcmp(text, "snapshot-slots") == 0) {
        return take_number("db …,snapshot-slots", value, 1, 1u << 30, &options->snapshot_slots);
    } else if (value != NULL && strcmp(text, "clone_guard") == 0 &&
               (strcmp(value, "on") == 0 || strcmp(value, "off") == 0)) {
        options->clone_guard = strcmp(value, "on") == 0;
    } else if (value != NULL && strcmp(text, "sync-ms") == 0) {
        return take_number("db …,sync-ms", value, 1, 3600000, &options->sync_every_ms);
    } else if (value != NULL && strcmp(text, "grace-ms") == 0) {
        return take_number("db …,grace-ms", value, 1, 86400000, &options->grace_ms);
    } else {
        return cli_usage(
            &cli_node,
            "--db '%s': unknown option '%s'; there are ack=, snapshot-slots=, grace-ms=, sync-ms=, "
            "clone_guard=on|off, no-snapshots, no-fast-suspicion",
            spec, text);
    }
    return 0;
}

/* Reads one NAME=ENGINE[,OPTION…] into *out. */
static int read_database(const char *spec, struct database *out)
{
    struct hadb_error err = {0};
    *out = (struct database){.options = HADB_DB_OPTIONS_INIT};
    if (snprintf(out->text, sizeof out->text, "%s", spec) >= (int)sizeof out->text) {
        return cli_usage(&cli_node, "--db '%s' is too long", spec);
    }
    char *engine = strchr(out->text, '=');
    if (engine == NULL || engine[1] == '\0') {
        return cli_usage(&cli_node, "--db '%s': write NAME=kv, with options behind commas", spec);
    }
    *engine++ = '\0';
    char *save = NULL;
    out->options.engine = strtok_r(engine, ",", &save);
    for (char *part; (part = strtok_r(NULL, ",", &save)) != NULL;) {
        int r = db_option(spec, part, &out->options);
        if (r != 0) {
            return r;
        }
    }
    return hadb_db_check(out->text, &out->options, &err) == 0
               ? 0
               : cli_usage(&cli_node, "--db '%s': %s", spec, err.message);
}

/* All of them, before anything is made anywhere. */
static int read_databases(const struct node_args *args, struct database *out)
{
    for (size_t i = 0; i < args->databases_len; i++) {
        int r = read_database(args->databases[i], &out[i]);
        for (size_t j = 0; r == 0 && j < i; j++) {
            if (strcmp(out[i].text, out[j].text) == 0) {
                r = cli_usage(&cli_node, "--db '%s': database %s is named twice",
                              args->databases[i], out[i].text);
            }
        }
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* What the threads that open databases share. */
struct openers {
    struct hadb_node *node;
    const struct database *databases;
    size_t len;
    pthread_mutex_t mu;
    size_t next;           /* mu: the first that nobody has taken */
    bool failed;           /* mu: … and then no more are taken */
    struct hadb_error err; /* mu: of the first failure */
};

static void *open_some(void *arg)
{
    struct openers *o = arg;
    pthread_mutex_lock(&o->mu);
    while (!o->failed && o->next < o->len) {
        const struct database *database = &o->databases[o->next++];
        struct hadb_error err = {0};
        struct hadb_db *db = NULL;
        pthread_mutex_unlock(&o->mu);
        int r = hadb_db_open(o->node, database->text, &database->options, &db, &err);
        pthread_mutex_lock(&o->mu);
        if (r != 0 && !o->failed) {
            o->failed = true;
            o->err = err;
        }
    }
    pthread_mutex_unlock(&o->mu);
    return NULL;
}

static int open_databases(struct hadb_node *node, const struct database *databases, size_t len)
{
    struct openers openers = {.node = node, .databases = databases, .len = len};
    pthread_t threads[OPENERS_MAX];
    size_t started = 0;
    pthread_mutex_init(&openers.mu, NULL);
    while (started < OPENERS_MAX && started + 1 < len && /* this thread is one, too */
           pthread_create(&threads[started], NULL, open_some, &openers) == 0) {
        started++;
    }
    open_some(&openers);
    while (started > 0) {
        pthread_join(threads[--started], NULL);
    }
    pthread_mutex_destroy(&openers.mu);
    return openers.failed ? cli_fail_error(&openers.err) : 0;
}

static int serve(struct node_args *args)
{
    static struct database databases[DATABASES_MAX];
    const char *names[DATABASES_MAX];
    int r = read_databases(args, databases);
    if (r != 0) {
        return r;
    }
    for (size_t i = 0; i < args->databases_len; i++) {
        names[i] = databases[i].text;
    }
    args->options.databases = names;
    args->options.databases_len = args->databases_len;
    cli_raise_files();
    struct hadb_error err = {0};
    struct hadb_node *node = NULL;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL); /* before any thread starts; taken by sigwait below */
    signal(SIGPIPE, SIG_IGN);
    if (hadb_node_open(&args->options, &node, &err) != 0) {
        return cli_fail_error(&err);
    }
    r = open_databases(node, databases, args->databases_len);
    if (r == 0) {
        printf("ready %s %s pid %ld\n", hadb_node_name(node), hadb_node_address(node),
               (long)getpid());
        fflush(stdout);
        int signal_number = 0;
        sigwait(&set, &signal_number);
        fprintf(stderr,
                "hadb node: %s: closing within %u ms, or 5 s more where storage, lease or disk "
                "hang\n",
                strsignal(signal_number), args->shutdown_ms);
        sigprocmask(SIG_UNBLOCK, &set, NULL); /* a second signal ends it at once */
    }
    hadb_node_close(node, args->shutdown_ms);
    return r;
}

static int run_node(int argc, char **argv)
{
    struct node_args args = {.options = HADB_NODE_OPTIONS_INIT, .shutdown_ms = SHUTDOWN_MS_DEFAULT};
    char token[CLI_TOKEN_BYTES] = "";
    args.env = *hadb_env_host();
    args.env.log_level = HADB_LOG_INFO;
    args.options.env = &args.env;
    args.options.token = token;
    int r = parse(argc, argv, &args);
    r = r != 0 ? r : cli_read_token(args.token_file, token);
    r = r != 0 ? r : serve(&args);
    explicit_bzero(token, sizeof token);
    return r;
}

const struct cli_command cli_node = {
    .name = "node",
    .usage = "--name N --data DIR --store URL --lease URL --db NAME=kv[,ack=durable]… [options]",
    .summary = "run a node of the cluster in the foreground",
    .help =
        "Prints 'ready NAME ADDR:PORT pid N' once it answers. SIGTERM hands over what it leads and "
        "ends.\n\n"
        "  --name N            name of this node, unique in the cluster\n"
        "  --data DIR          its folder, made if missing; one process at a time\n"
        "  --store URL         where histories live: file:///dir, s3://…, http://…, mem:\n"
        "  --lease URL         where nodes say that they live: file:///dir, s3://bucket/prefix,\n"
        "                      redis://host, etcd://host, nats://host, http://host,\n"
        "                      mem: (docs/lease-stores.md)\n"
        "  --listen ADDR:PORT  default 127.0.0.1:4280; port 0 picks one (also written to "
        "DIR/node.addr)\n"
        "  --advertise A:P     address for the other nodes; required if --listen is a wildcard\n"
        "  --db NAME=ENGINE[,OPTION…]   may be repeated; engines kv and memory; options:\n"
        "                      ack=async|local|durable|both, snapshot-slots=N (a snapshot after so "
        "many\n"
        "                      log entries), grace-ms=N (older entries are deleted so long after "
        "it),\n"
        "                      sync-ms=N (background fsync), clone_guard=on|off (machines may be "
        "copied\n"
        "                      while they run), no-snapshots, no-fast-suspicion\n"
        "  --ttl-ms N          a silent node is replaced after this (default 5000)\n"
        "  --token-file FILE   bearer token of nodes and clients (or HADB_TOKEN_FILE); required "
        "beyond loopback\n"
        "  --window N          log slots in flight per database, 1 to 8 (default 2)\n"
        "  --workers N         threads for blocking calls, 1 to 8 (default 4)\n"
        "  --shutdown-ms N     longest time for an orderly end (default 5000); 5 s more when a "
        "call to\n"
        "                      storage, lease or disk does not return\n"
        "  --never-lead        follow only\n"
        "  --verbose           log details\n",
    .run = run_node,
};
