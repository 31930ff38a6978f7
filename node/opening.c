/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a database: its name in storage, its copy in the data folder; and what of that waits for storage.
 *
 * Thread: hadb_db_open() blocks on the caller's; what it leaves to do runs on workers, answers on the loop.
 * Invariants: nothing is made anywhere before all arguments are checked; an open database never waits for
 * another; what storage has not named is not created in the data folder.
 * Happy path: check -> catalogue -> folders, engine, terms -> start.
 * Failure modes: storage does not answer: a database of this folder starts with what it has and its name is
 * confirmed later, any other waits, refusing requests with the reason. A damaged copy or object: it
 * halts, alone. Everything else (another engine, no right to create) is the caller's error.
 */
#include "node/kv_private.h"

#include <inttypes.h>
#include <stdio.h>

#define RETRY_MIN_MS 100u
#define RETRY_MAX_MS 10000u
#define SNAPSHOTS_KEEP 2u
#define SYNC_DEFAULT_MS 1000u

/* ---- the local copy ---- */

static int check_terms(const struct hadb_db *db, struct hadb_error *err)
{
    struct hadb_engine_position at;
    hadb_engine_position(&db->box->engine, &at);
    if (at.mark.term > 0 && !hadb_terms_find(&db->terms, at.mark.term - 1)) {
        return hadb_fail(err, HADB_ECORRUPT, "%s does not know term %" PRIu64, db->paths.terms,
                         at.mark.term - 1);
    }
    return 0;
}

/* Blocks. After a failure nothing is left open. */
static int open_copy(struct hadb_db *db, struct hadb_error *err)
{
    struct hadb_node *node = db->node;
    int r = hadb_folder_db(&node->folder, &db->uuid, db->name, db->engine_name, &db->paths, err);
    if (r == 0) {
        r = hadb__box_open(db, db->paths.engine, &db->box, err);
    }
    if (r == 0) {
        r = hadb_terms_load(&node->env->fs, db->paths.terms, &db->uuid, &db->terms, err);
    }
    if (r == 0) {
        r = check_terms(db, err);
    }
    if (r < 0) {
        hadb__box_close(db->box);
        db->box = NULL;
        hadb_terms_deinit(&db->terms);
        hadb_db_paths_deinit(&db->paths);
        return r;
    }
    struct hadb_engine_stats stats;
    hadb_engine_stats(&db->box->engine, &stats);
    if (stats.recovery[0]) {
        hadb_log(node->env, HADB_LOG_WARN, "engine", db->name, "%s", stats.recovery);
    }
    return 0;
}

/* ---- open ---- */

static bool no_answer(const struct hadb_error *err)
{
    return err->retryable || err->code == HADB_ECANCELED;
}

static bool is_damage(int r)
{
    return r == HADB_ECORRUPT || r == HADB_EVERSION;
}

static int ask_storage(struct hadb_db *db, struct hadb_error *err)
{
    struct hadb_node *node = db->node;
    if (__atomic_load_n(&node->store_silent, __ATOMIC_ACQUIRE)) {
        return hadb_fail(err, HADB_EUNAVAIL, "storage %s does not answer", node->store_url);
    }
    int r = hadb__catalog_open(node, db->name, db->engine_name, &db->cancel, &db->uuid, err);
    if (r < 0) {
        db->uuid = (struct hadb_id){0};
    }
    return r;
}

/* Storage has not answered: what is known without it, and the rest later. */
static int without_storage(struct hadb_db *db, struct hadb_error *err)
{
    struct hadb_node *node = db->node;
    db->opening = hadb_calloc(1, sizeof *db->opening);
    if (!db->opening) {
        return hadb_fail_nomem(err);
    }
    __atomic_store_n(&node->store_silent, 1, __ATOMIC_RELEASE);
    const struct hadb_folder_db *known =
        hadb_folder_known_find(&node->known, db->name, db->engine_name);
    if (known) {
        db->uuid = known->uuid;
        hadb_log(node->env, HADB_LOG_WARN, "node", db->name,
                 "storage does not answer: going on with the copy of this node");
        return 0;
    }
    db->trouble = *err;
    db->why = *err;
    hadb_wrap(&db->why, db->why.code, "opening");
    hadb_advise(&db->why, db->why.code, "this node has no copy yet, it asks again by itself");
    hadb_log(node->env, HADB_LOG_WARN, "node", db->name, "%s", db->why.message);
    return 0;
}

/* Blocks. Leaves the database ready for hadb__db_start(), which starts or halts it. */
static int prepare(struct hadb_db *db, struct hadb_error *err)
{
    int r = ask_storage(db, err);
    if (r < 0 && no_answer(err)) {
        r = without_storage(db, err);
    } else if (is_damage(r)) {
        db->broken = HADB_R_CORRUPT;
        db->trouble = *err;
        return 0;
    }
    if (r < 0 || hadb_id_is_zero(&db->uuid)) {
        return r;
    }
    r = open_copy(db, err);
    if (r < 0 && hadb__local_result(r) != HADB_R_LATER) {
        db->broken = HADB_R_FAILED;
        db->trouble = *err;
        return 0;
    }
    return r;
}

static struct hadb_db *new_db(struct hadb_node *node, const char *name,
                              const struct hadb_db_options *options)
{
    struct hadb_db *db = hadb_calloc(1, sizeof *db);
    if (!db) {
        return NULL;
    }
    db->node = node;
    db->state = HADB_DB_STOPPED;
    db->snapshots_keep = SNAPSHOTS_KEEP;
    db->ack = options->ack ? options->ack : HADB_ACK_DURABLE;
    db->engine_options.sync_every_ms =
        options->sync_every_ms ? options->sync_every_ms : SYNC_DEFAULT_MS;
    snprintf(db->name, sizeof db->name, "%s", name);
    snprintf(db->engine_name, sizeof db->engine_name, "%s",
             options->engine ? options->engine : "kv");
    return db;
}

int hadb_db_check(const char *name, const struct hadb_db_options *options, struct hadb_error *err)
{
    if (!name || !hadb_name_valid(name)) {
        return hadb_fail(err, HADB_EINVAL,
                         "a database needs a name of 1 to %u characters out of A-Z a-z 0-9 . _ -",
                         HADB_NAME_BYTES_MAX);
    }
    if (!options) {
        return 0;
    }
    if (options->abi != HADB_NODE_ABI || options->ack > HADB_ACK_BOTH) {
        return hadb_fail(err, HADB_EINVAL, "options were not made with HADB_DB_OPTIONS_INIT");
    }
    return options->engine
               ? hadb_wrap(err, hadb_engine_check(options->engine, err), "database %s", name)
               : 0;
}

struct start_db {
    struct hadb_node *node;
    const char *name;
    struct hadb_db *db;
    const struct hadb_db_options *options;
    struct hadb_error *err;
    int r;
};

static void find_on_loop(void *arg)
{
    struct start_db *start = arg;
    if (hadb__node_find_db(start->node, start->name)) {
        start->r = hadb_fail(start->err, HADB_EBUSY, "database %s is open on this node already",
                             start->name);
    }
}

static void start_db_on_loop(void *arg)
{
    struct start_db *start = arg;
    start->r = hadb__db_start(start->db, start->options, start->err);
}

static int call_loop(struct start_db *start, hadb_loop_fn fn)
{
    int r = hadb_loop_call(start->node->loop, fn, start);
    return r < 0 ? hadb_fail(start->err, HADB_EUNAVAIL, "the node is closing") : start->r;
}

int hadb_db_open(struct hadb_node *node, const char *name, const struct hadb_db_options *options,
                 struct hadb_db **out, struct hadb_error *err)
{
    static const struct hadb_db_options defaults = HADB_DB_OPTIONS_INIT;
    options = options ? options : &defaults;
    struct hadb_error own;
    err = err ? err : &own;
    *err = (struct hadb_error){0};
    struct start_db start = {.node = node, .name = name, .options = options, .err = err};
    int r = hadb_db_check(name, options, err);
    if (r == 0) {
        r = out ? hadb__node_usable(node, err) : hadb_fail_misuse(err, __func__);
    }
    if (r == 0) {
        r = hadb__may_wait(node, err);
    }
    if (r == 0) {
        r = call_loop(&start, find_on_loop);
    }
    if (r < 0) {
        return r;
    }
    start.db = new_db(node, name, options);
    if (!start.db) {
        return hadb_fail_nomem(err);
    }
    r = prepare(start.db, err);
    if (r == 0) {
        r = call_loop(&start, start_db_on_loop);
    }
    if (r < 0) {
        hadb__db_free(start.db);
        return r;
    }
    *out = start.db;
    return 0;
}

/* ---- later ---- */

static void run(void *arg)
{
    struct hadb_db *db = arg;
    struct hadb_opening *opening = db->opening;
    opening->r = opening->copy ? open_copy(db, &opening->err)
                               : hadb__catalog_open(db->node, db->name, db->engine_name,
                                                    &db->cancel, &opening->uuid, &opening->err);
}

static void finish(struct hadb_db *db)
{
    hadb_timer_deinit(&db->opening->timer);
    hadb_free(db->opening);
    db->opening = NULL;
}

static void give_up(struct hadb_db *db, enum hadb_result result)
{
    struct hadb_error err = db->opening->err;
    finish(db);
    hadb__db_unusable(db, result, &err);
}

static void try_later(struct hadb_db *db)
{
    struct hadb_opening *opening = db->opening;
    uint64_t wait = (uint64_t)RETRY_MIN_MS << HADB_MIN(opening->attempts, 10u);
    uint32_t dice = 0;
    opening->attempts++;
    hadb_random(db->node->env, &dice, sizeof dice);
    wait = HADB_MIN(wait, RETRY_MAX_MS);
    hadb_timer_start(&opening->timer, hadb__now(db->node) + wait / 2 + dice % (wait / 2 + 1));
    hadb_log(db->node->env, HADB_LOG_DEBUG, "node", db->name, "%s: asking again",
             opening->err.message);
}

/* Storage has named the database. */
static void named(struct hadb_db *db)
{
    struct hadb_opening *opening = db->opening;
    if (db->state ==
        HADB_DB_OPEN) { /* it runs already, and is the same: the catalogue has compared */
        finish(db);
        return;
    }
    if (hadb__node_find_uuid(db->node, &opening->uuid)) {
        hadb_fail(&opening->err, HADB_EBUSY, "it is open on this node under another name");
        give_up(db, HADB_R_FAILED);
        return;
    }
    db->uuid = opening->uuid;
    opening->copy = true;
    hadb__opening_step(db);
}

static void opened(struct hadb_db *db)
{
    db->trouble = (struct hadb_error){0};
    db->why = (struct hadb_error){0};
    finish(db);
    hadb__db_begin(db);
}

static void done(void *arg, int r)
{
    struct hadb_db *db = arg;
    struct hadb_opening *opening = db->opening;
    opening->busy = false;
    hadb__job_ends(db, NULL);
    if (r < 0 || db->state > HADB_DB_OPEN) {
        hadb__db_check_stopped(db);
        return;
    }
    if (opening->r == 0) {
        __atomic_store_n(&db->node->store_silent, 0, __ATOMIC_RELEASE);
    }
    if (opening->r == 0 && opening->copy) {
        opened(db);
    } else if (opening->r == 0) {
        named(db);
    } else if (opening->copy && hadb__local_result(opening->r) != HADB_R_LATER) {
        give_up(db, HADB_R_FAILED);
    } else if (is_damage(opening->r) || opening->r == HADB_EINVAL) {
        give_up(db, HADB_R_CORRUPT);
    } else {
        try_later(db);
    }
}

void hadb__opening_step(struct hadb_db *db)
{
    struct hadb_opening *opening = db->opening;
    HADB_ASSERT(!opening->busy);
    opening->job = (struct hadb_job){.run = run, .done = done, .arg = db};
    opening->err = (struct hadb_error){0};
    opening->busy = true;
    db->jobs_running++;
    if (hadb_pool_submit(db->node->store_pool, NULL, &opening->job, &opening->err) < 0) {
        opening->busy = false;
        db->jobs_running--;
        try_later(db);
    }
}
