/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model checker: breadth first through every world that the moves of a configuration can reach.
 *
 * A world is stored as the numbers of its parts (mc_pool.c); the worlds themselves are numbered in
 * the order of their discovery, which is also the queue. Parent and move of each are kept, so the
 * shortest way to a violation is found by walking back and told by walking forward again with the
 * trace on. Comparing is exact: no world is taken for another.
 *
 * Thread: one. Memory: about 60 bytes per world, plus the parts.
 */
#include "base/util.h"
#include "sim/mc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define STATES_MAX (1ull << 27)
#define BYTES_MAX (5ull << 30)
#define STEPS_MAX 512

struct mc_run mc_run;

struct search {
    struct mc_pool *procs, *shareds, *worlds;
    uint32_t *parent;
    struct mc_move *move;
    uint64_t states_max;
    double started, seconds_max;
    struct mc_world at; /* the world that is being expanded */
    uint32_t key[4];
};

void mc_trace(const char *format, ...)
{
    if (mc_run.trace == NULL) {
        return;
    }
    va_list args;
    va_start(args, format);
    fputs("        ", mc_run.trace);
    vfprintf(mc_run.trace, format, args);
    fputc('\n', mc_run.trace);
    va_end(args);
}

/* On a store that breaks S1 nothing can be promised, except never to bridge a gap. */
static bool counts(const char *format)
{
    bool promise = format[0] == 'I' && format[1] != '6' && format[1] != '8';
    return mc_run.config->overwrites == 0 || !promise;
}

void mc_violate(const char *format, ...)
{
    if (mc_run.violation[0] != '\0' || !counts(format)) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(mc_run.violation, sizeof mc_run.violation, format, args);
    va_end(args);
}

/* ---- a broken invariant of the machine itself is a violation, too ---- */

static jmp_buf trap;
static bool trap_set;

/* Takes the place of the one in base/, which ends the process. */
_Noreturn void hadb_assert_failed(const char *expr, const char *file, int line, const char *func)
{
    if (!trap_set) {
        fprintf(stderr, "hadb-mc: broken invariant: %s (%s:%d, %s)\n", expr, file, line, func);
        abort();
    }
    mc_violate("broken invariant of the machine: %s (%s:%d)", expr, file, line);
    longjmp(trap, 1);
}

static enum mc_outcome guarded(struct mc_world *world, struct mc_move move)
{
    enum mc_outcome outcome = MC_VIOLATION;
    if (setjmp(trap) == 0) {
        trap_set = true;
        outcome = mc_apply(world, move);
        if (outcome == MC_DONE) {
            outcome = mc_check(world);
        }
    } else {
        outcome = MC_VIOLATION;
    }
    trap_set = false;
    return outcome;
}

static bool guarded_heal(struct mc_world *world)
{
    bool healed = false;
    if (setjmp(trap) == 0) {
        trap_set = true;
        healed = mc_heal(world);
    } else {
        healed = false;
    }
    trap_set = false;
    mc_run.healing = false;
    return healed;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *reserve(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "hadb-mc: cannot reserve memory\n");
        exit(2);
    }
    return p;
}

/* Interns the parts of @world that changed; the others keep their number in @key. */
static void intern(struct search *s, const struct mc_world *world, uint32_t dirty, uint32_t key[4])
{
    bool fresh;
    for (uint8_t p = 0; p < mc_run.config->procs; p++) {
        if (dirty & (1u << p)) {
            key[p] = mc_pool_put(s->procs, &world->proc[p], &fresh);
        }
    }
    if (dirty & MC_DIRTY_SHARED) {
        key[3] = mc_pool_put(s->shareds, &world->shared, &fresh);
    }
}

static void load(struct search *s, uint32_t id, struct mc_world *world)
{
    mc_pool_get(s->worlds, id, s->key);
    for (uint8_t p = 0; p < mc_run.config->procs; p++) {
        mc_pool_get(s->procs, s->key[p], &world->proc[p]);
    }
    mc_pool_get(s->shareds, s->key[3], &world->shared);
}

/* Puts the parts that a move touched back to what they were. */
static void undo(struct mc_world *world, const struct mc_world *from, uint32_t dirty)
{
    for (uint8_t p = 0; p < mc_run.config->procs; p++) {
        if (dirty & (1u << p)) {
            world->proc[p] = from->proc[p];
        }
    }
    if (dirty & MC_DIRTY_SHARED) {
        world->shared = from->shared;
    }
}

static void add(struct search *s, const uint32_t key[4], uint32_t parent, struct mc_move move)
{
    bool fresh;
    uint32_t id = mc_pool_put(s->worlds, key, &fresh);
    if (fresh) {
        s->parent[id] = parent;
        s->move[id] = move;
    }
}

/* ---- telling a counterexample ---- */

static void tell(struct search *s, uint32_t last, const struct mc_move *final, bool heal)
{
    struct mc_move way[STEPS_MAX];
    size_t len = 0;
    for (uint32_t id = last; id != 0 && len < STEPS_MAX; id = s->parent[id]) {
        way[len++] = s->move[id];
    }
    struct mc_world *world = calloc(1, sizeof *world);
    HADB_ASSERT(world != NULL);
    char violation[sizeof mc_run.violation];
    memcpy(violation, mc_run.violation, sizeof violation);
    printf("counterexample: %s\n", violation);
    mc_run.violation[0] = '\0';
    printf("     0  start of configuration %s\n", mc_run.config->name);
    mc_world_init(world);
    mc_run.trace = stdout;
    for (size_t i = 0; i < len + (final != NULL); i++) {
        struct mc_move move = i < len ? way[len - 1 - i] : *final;
        char text[160];
        mc_move_print(world, move, text, sizeof text);
        printf("  %4zu  %s\n", i + 1, text);
        guarded(world, move);
    }
    if (heal) {
        printf("        now everything that is under way arrives, and nothing more goes wrong\n");
        guarded_heal(world);
    }
    printf("        => %s\n", violation);
    fflush(stdout);
    mc_run.trace = NULL;
    free(world);
}

/* ---- the loop ---- */

static bool heal_ok(struct search *s)
{
    struct mc_world *copy = malloc(sizeof *copy);
    HADB_ASSERT(copy != NULL);
    *copy = s->at;
    mc_run.violation[0] = '\0';
    bool ok = guarded_heal(copy);
    free(copy);
    return ok;
}

/* Makes every move from world @id; false when one of them breaks an invariant. */
static bool expand(struct search *s, uint32_t id, struct mc_world *work, struct mc_result *result)
{
    struct mc_move moves[MC_MOVES_MAX];
    load(s, id, &s->at);
    uint32_t from[4];
    memcpy(from, s->key, sizeof from);
    if (mc_run.config->heal) {
        result->healed++;
        if (!heal_ok(s)) {
            if (mc_run.violation[0] == '\0') {
                mc_violate("stuck: healing leads to no owner that acknowledges a write");
            }
            tell(s, id, NULL, true);
            return false;
        }
    }
    undo(work, &s->at, UINT32_MAX);
    size_t len = mc_moves(&s->at, moves);
    for (size_t i = 0; i < len; i++) {
        mc_run.dirty = 0;
        mc_run.violation[0] = '\0';
        enum mc_outcome outcome = guarded(work, moves[i]);
        result->transitions++;
        if (outcome == MC_VIOLATION) {
            tell(s, id, &moves[i], false);
            return false;
        }
        if (outcome == MC_DONE) {
            uint32_t key[4];
            memcpy(key, from, sizeof key);
            intern(s, work, mc_run.dirty, key);
            add(s, key, id, moves[i]);
        } else {
            result->pruned++;
        }
        undo(work, &s->at, mc_run.dirty);
    }
    return true;
}

static bool over(struct search *s, uint64_t done)
{
    if (mc_pool_len(s->worlds) >= s->states_max) {
        return true;
    }
    if ((done & 1023) != 0) {
        return false;
    }
    uint64_t bytes = mc_pool_bytes(s->worlds) + mc_pool_bytes(s->procs) + mc_pool_bytes(s->shareds);
    return (s->seconds_max > 0 && seconds() - s->started > s->seconds_max) || bytes > BYTES_MAX;
}

static bool walk(struct search *s, struct mc_world *work, struct mc_result *result)
{
    uint64_t level_end = 1;
    result->exhausted = true;
    for (uint64_t id = 0; id < mc_pool_len(s->worlds); id++) {
        if (id == level_end) {
            level_end = mc_pool_len(s->worlds);
            result->depth++;
            if (mc_run.config->depth != 0 && result->depth >= mc_run.config->depth) {
                result->exhausted = false;
                return true;
            }
        }
        if (over(s, id)) {
            result->exhausted = false;
            return true;
        }
        if (!expand(s, (uint32_t)id, work, result)) {
            result->exhausted = false;
            return false;
        }
    }
    return true;
}

static void prepare(const struct mc_config *config, uint32_t rules)
{
    memset(&mc_run, 0, sizeof mc_run);
    mc_run.config = config;
    mc_run.rules = rules;
    mc_run.core = (struct hadb_core_config){
        .rules = rules,
        .clone_guard = config->clones != 0,
        .window = config->window,
        .poll_min_ms = 1000000,
        .poll_max_ms = 1000000,
        .tip_polls_max = 0,
        .give_up_ms = 1000000,
        .fast_suspicion = true,
    };
}

int mc_search(const struct mc_config *config, uint32_t rules, uint64_t states_max,
              double seconds_max, struct mc_result *result)
{
    memset(result, 0, sizeof *result);
    prepare(config, rules);
    struct search *s = calloc(1, sizeof *s);
    struct mc_world *work = calloc(1, sizeof *work);
    HADB_ASSERT(s != NULL && work != NULL);
    s->procs = mc_pool_new(sizeof(struct mc_proc));
    s->shareds = mc_pool_new(sizeof(struct mc_shared));
    s->worlds = mc_pool_new(sizeof s->key);
    s->parent = reserve(STATES_MAX * sizeof *s->parent);
    s->move = reserve(STATES_MAX * sizeof *s->move);
    s->states_max = HADB_MIN(states_max, STATES_MAX - MC_MOVES_MAX);
    s->seconds_max = seconds_max;
    s->started = seconds();
    bool sound = mc_world_init(work) == MC_DONE && mc_check(work) == MC_DONE;
    if (!sound) {
        tell(s, 0, NULL, false);
    } else {
        intern(s, work, UINT32_MAX, s->key);
        add(s, s->key, 0, (struct mc_move){0});
        sound = walk(s, work, result);
    }
    result->violated = !sound;
    result->states = mc_pool_len(s->worlds);
    result->seconds = seconds() - s->started;
    result->bytes = mc_pool_bytes(s->worlds) + mc_pool_bytes(s->procs) + mc_pool_bytes(s->shareds);
    free(work);
    free(s); /* the pools live until the process ends: one configuration per process */
    return sound ? 0 : 1;
}
