/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's functions, by file. */
#ifndef HADB_SIM_SIM_PRIVATE_H
#define HADB_SIM_SIM_PRIVATE_H

#include "sim/sim.h"

#define SIM_PRINTF(a, b) __attribute__((format(printf, a, b)))

/* sim_world.c: time, chance, trace, the loop */
void sim_init(struct sim *s, uint64_t seed, const struct sim_options *opt, uint64_t *sometimes);
void sim_free(struct sim *s);
void sim_run(struct sim *s);
uint64_t sim_random(struct sim *s);
uint64_t sim_below(struct sim *s, uint64_t n); /* 0..n-1; n = 0 gives 0 */
bool sim_chance(struct sim *s, uint64_t per_mille);
bool sim_has(const struct sim *s, uint64_t fault);
bool sim_fault(struct sim *s, enum sim_fault_bit bit); /* drawn, not healed, and it happens now */
uint64_t sim_around(struct sim *s, uint64_t mean_us);  /* 0.5 to 1.5 times, sometimes much more */
void sim_push(struct sim *s, uint64_t delay_us, const struct sim_event *ev);
void sim_note(struct sim *s, uint64_t a, uint64_t b, uint64_t c); /* into the trace hash */
void sim_say(struct sim *s, const char *format, ...) SIM_PRINTF(2, 3);
void sim_fail(struct sim *s, const char *format, ...) SIM_PRINTF(2, 3); /* an oracle objects */
void sim_saw(struct sim *s, enum sim_sometimes which);
void sim_tail(const struct sim *s, FILE *out); /* the last lines that were said */
void *sim_must(void *p);

/* sim_facts.c: facts and maps */
uint32_t sim_map_get(const struct sim_map *map, uint64_t term, uint64_t slot); /* 0 = none */
void sim_map_set(struct sim_map *map, uint64_t term, uint64_t slot, uint32_t value);
struct sim_list sim_list_new(struct sim *s, const uint32_t *items, uint32_t len);
uint32_t sim_entry_new(struct sim *s, struct hadb_entry_info *info, struct sim_list txs);
uint32_t sim_entry_of(const struct hadb_hash *hash); /* which entry has this hash; 0 = none */
uint32_t sim_manifest_new(struct sim *s, const struct sim_manifest *manifest);
uint32_t sim_snapshot_new(struct sim *s, const struct sim_snapshot *snapshot);
struct hadb_owner sim_owner_at(const struct sim *s, const struct hadb_pos *pos);
struct hadb_owner sim_owner(uint8_t node, uint32_t life);
uint8_t sim_owner_node(const struct hadb_owner *owner); /* SIM_NOBODY = nobody */
uint32_t sim_owner_life(const struct hadb_owner *owner);
void sim_entry_words(const struct sim *s, uint32_t entry, char *out, size_t size);

/* sim_draw.c: what a seed is made of, and trouble while it runs */
void sim_draw(struct sim *s);
void sim_nemesis(struct sim *s);
void sim_nemesis_later(struct sim *s);

/* sim_damage.c: a store that forgets, at the end of some seeds */
bool sim_damage(struct sim *s); /* false: there is nothing whose loss could be noticed */
bool sim_damage_explains(struct sim *s, enum hadb_halt halt);
void sim_damage_gate(struct sim *s, uint8_t n);
void sim_damage_read(struct sim *s, uint8_t n, uint64_t txid);

/* sim_engine.c */
void sim_engine_init(struct sim_engine *e);
void sim_engine_free(struct sim_engine *e);
void sim_engine_commit(struct sim *s, struct sim_engine *e, uint32_t req, uint64_t term);
enum hadb_result sim_engine_apply(struct sim *s, struct sim_engine *e, uint32_t entry,
                                  const struct hadb_pos *pos);
void sim_engine_mark(struct sim_engine *e, const struct hadb_pos *pos);
void sim_engine_rewind(struct sim *s, struct sim_engine *e, uint64_t txid);
void sim_engine_restore(struct sim *s, struct sim_engine *e, const struct sim_snapshot *snapshot);
void sim_engine_sync(struct sim_engine *e);
void sim_engine_flush(struct sim *s, struct sim_engine *e); /* as an fsync, which may lie */
void sim_engine_crash(struct sim *s, struct sim_engine *e, bool keep_all); /* undoes a part of it */
void sim_engine_clear(struct sim *s, struct sim_engine *e);

/* sim_node.c: processes, clocks, timers, steps of the machines */
uint64_t sim_local_ms(const struct sim *s, const struct sim_node *node);
void sim_node_init(struct sim *s, uint8_t n);
void sim_node_start(struct sim *s, uint8_t n);
void sim_node_crash(struct sim *s, uint8_t n, bool keep_all, bool empty_disk);
void sim_node_pause(struct sim *s, uint8_t n, uint64_t us);
void sim_node_resume(struct sim *s, uint8_t n);
void sim_node_defer(struct sim *s, const struct sim_event *ev); /* until it goes on */
void sim_node_poison(struct sim *s, uint8_t n);
void sim_node_stop(struct sim *s, uint8_t n);
void sim_node_timer(struct sim *s, const struct sim_event *ev);
void sim_node_heartbeat(struct sim *s, uint8_t n);
void sim_node_set_rate(struct sim *s, uint8_t n, uint32_t permille);
void sim_step(struct sim *s, uint8_t n, const struct hadb_event *ev);
void sim_step_simple(struct sim *s, uint8_t n, enum hadb_event_type type);
void sim_arm(struct sim *s, uint8_t n);
uint64_t sim_handle_new(struct sim *s, uint8_t n, uint8_t kind, uint32_t id, struct sim_list view);
struct sim_handle *sim_handle_of(struct sim *s, uint8_t n, uint64_t handle, uint8_t kind);
void sim_handle_free(struct sim *s, uint8_t n, uint64_t handle);
uint32_t sim_handles_open(const struct sim_node *node);

/* sim_act.c: carrying out the actions, answering them */
void sim_act(struct sim *s, uint8_t n, const struct hadb_action *action);
void sim_answer(struct sim *s, const struct sim_event *ev);
void sim_answer_later(struct sim *s, uint8_t n, enum hadb_core_op op, enum hadb_result result,
                      uint32_t a, uint64_t delay_us);

/* sim_store.c */
void sim_store_ask(struct sim *s, uint8_t n, enum hadb_core_op op);
void sim_store_arrive(struct sim *s, const struct sim_event *ev);
bool sim_store_ahead(const struct sim *s, const struct hadb_pos *pos);         /* is there more? */
uint32_t sim_store_history(const struct sim *s, uint32_t *reqs, uint32_t max); /* transactions */

/* sim_lease.c: hints of nodes, judging the owner */
void sim_lease_pump(struct sim *s, uint8_t n); /* what hint and watch want now */
void sim_lease_arrive(struct sim *s, const struct sim_event *ev);
void sim_lease_reply(struct sim *s, const struct sim_event *ev);
void sim_watch_owner(struct sim *s, uint8_t n); /* the owner changed */

/* sim_net.c: links, streams, messages between nodes */
bool sim_link_up(const struct sim *s, uint8_t from, uint8_t to);
void sim_connect(struct sim *s, uint8_t n, uint8_t to, bool stream);
void sim_connect_arrive(struct sim *s, const struct sim_event *ev);
void sim_link_result(struct sim *s, const struct sim_event *ev);
void sim_stream_arrive(struct sim *s, const struct sim_event *ev);
void sim_stream_entry(struct sim *s, uint8_t n, uint32_t entry);
void sim_stream_mark(struct sim *s, uint8_t n, const struct hadb_pos *pos);
void sim_stream_beat(struct sim *s, uint8_t n);
void sim_streams_close(struct sim *s, uint8_t n); /* those that n serves */
void sim_stream_drop(struct sim *s, uint8_t n);   /* the one that n reads */
void sim_stream_pump(struct sim *s, uint8_t n);   /* connect if that is due */
void sim_process_gone(struct sim *s, uint8_t n);  /* its connections are reset */
void sim_node_msg(struct sim *s, const struct sim_event *ev);
void sim_ask_ready(struct sim *s, uint8_t n, uint8_t target);
void sim_notify(struct sim *s, uint8_t n, const struct hadb_owner *owner);
void sim_notify_all(struct sim *s, uint8_t n);
void sim_notify_again(struct sim *s, uint8_t n);

/* sim_serve.c: requests at a node */
void sim_serve(struct sim *s, const struct sim_event *ev);
void sim_serve_join(struct sim *s, uint8_t n, uint64_t round); /* the read of this event */
void sim_serve_durable(struct sim *s, uint8_t n); /* the mark moved: answer what waited for it */
void sim_serve_round(struct sim *s, uint8_t n, uint64_t round);
void sim_serve_round_failed(struct sim *s, uint8_t n);
void sim_serve_lost(struct sim *s, uint8_t n, uint64_t txid, bool definite); /* above txid */
void sim_serve_reset(struct sim *s, uint8_t n); /* the process is gone */

/* sim_client.c: requests at their origin */
void sim_client_next(struct sim *s, uint8_t c);
void sim_client_reply(struct sim *s, const struct sim_event *ev);
void sim_client_timeout(struct sim *s, const struct sim_event *ev);
void sim_client_kick(struct sim *s, uint8_t c, uint64_t delay_us);
uint32_t sim_heal_write(struct sim *s);

/* sim_oracle.c */
void sim_oracle_durable(struct sim *s, uint8_t n, const struct hadb_pos *pos);
void sim_oracle_bounded(struct sim *s, uint8_t n, const struct sim_wait *w);
void sim_oracle_gate(struct sim *s, uint8_t n, uint64_t term);
void sim_oracle_manifest(struct sim *s, uint32_t manifest);
void sim_oracle_handles(struct sim *s, uint8_t n);
void sim_oracle_end(struct sim *s);

enum sim_stream_op {
    SIM_ST_HELLO,
    SIM_ST_WELCOME,
    SIM_ST_ENTRY,
    SIM_ST_MARK,
    SIM_ST_BEAT,
    SIM_ST_CLOSE
};
enum sim_msg_op { SIM_MSG_ASK, SIM_MSG_READY, SIM_MSG_NOTIFY, SIM_MSG_HEARD };
enum sim_lease_op { SIM_LEASE_READ_OWN, SIM_LEASE_WRITE, SIM_LEASE_READ_OTHER, SIM_LEASE_AWAIT };
#endif
