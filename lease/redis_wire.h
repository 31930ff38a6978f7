/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to one Redis server: commands out, replies in, until a deadline or a cancel. Any thread. */
#ifndef HADB_LEASE_REDIS_WIRE_H
#define HADB_LEASE_REDIS_WIRE_H
#include "base/place.h"

#define HADB_REDIS_ARGS_MAX 8u
#define HADB_REDIS_REPLY_BYTES_MAX (HADB_LEASE_RECORD_BYTES_MAX + 16384u)
#define HADB_REDIS_KEPT_MAX 16u /* idle connections kept */

struct redisReply; /* of hiredis */
struct hadb__redis;

struct hadb__redis_reply {
    enum hadb__http_failure
        failure;  /* HADB__HTTP_FINE: @reply is set, and may be an error of the server's */
    bool sent;    /* the server may have seen the command */
    bool refused; /* the server did not let us in: @text is its word for it */
    char text[200];
    struct redisReply *reply;
};

/* @place and @env outlive it; @database is selected on each connection. HADB_ENOMEM, HADB_EIO. */
int hadb__redis_open(const struct hadb__net_place *place, const struct hadb_env *env,
                     unsigned database, struct hadb__redis **out, struct hadb_error *err);
void hadb__redis_close(struct hadb__redis *redis); /* no command is running; NULL is fine */
/* Sends one command and reads its reply. @out is replaced. */
void hadb__redis_perform(struct hadb__redis *redis, const struct hadb_call *call,
                         const struct hadb_slice *args, size_t args_len,
                         struct hadb__redis_reply *out);
void hadb__redis_reply_deinit(struct hadb__redis_reply *reply);
#endif
