/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes for one connection of nats.c, on one thread. */
#ifndef HADB_LEASE_NATS_PUMP_H
#define HADB_LEASE_NATS_PUMP_H
#include <nats/nats.h>
#include <stdint.h>

#include "hadb/error.h"

struct hadb_env;
struct hadb__nats_pump;

/* 0, HADB_ENOMEM, HADB_EUNAVAIL. Before the connection is made; @env outlives it. */
int hadb__nats_pump_new(const struct hadb_env *env, struct hadb__nats_pump **out,
                        struct hadb_error *err);
/* Lets the connection that @options will make be driven by @pump; at most one. */
natsStatus hadb__nats_pump_use(struct hadb__nats_pump *pump, natsOptions *options);
/* Once the connection stands. 0, HADB_ENOMEM, HADB_EUNAVAIL: then nothing moves on it, destroy it. */
int hadb__nats_pump_start(struct hadb__nats_pump *pump, struct hadb_error *err);
/* When the server was heard last, on the clock of hadb_now_ms(). Any thread. */
uint64_t hadb__nats_pump_heard_ms(struct hadb__nats_pump *pump);
/* Ends the thread, then @nc (may be NULL); what was not sent yet is dropped. NULL is fine. */
void hadb__nats_pump_destroy(struct hadb__nats_pump *pump, natsConnection *nc);
#endif
