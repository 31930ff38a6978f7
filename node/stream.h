/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream from the owner of databases to a follower: an accelerator, never a source of truth.
 *
 * A follower asks for it with POST /v1/stream, body: uuids of databases, 16 bytes each; headers Hadb-Node
 * (name), Hadb-Node-Id, Hadb-Node-Address. The answer is a body without end, made of frames, little-endian:
 *
 *        0     4  length of what follows
 *        4     1  type
 *        5     …  HELLO 1: node id 16, incarnation 16
 *                 ENTRY 2: database 16, stored bytes of a log entry
 *                 MARK  3: database 16, term 8, slot 8: durable up to here
 *                 BEAT  4: nothing; at least every ttl/3
 *                 POKE  5: database 16: there is news in storage
 *                 FREE  6: database 16, flag 1: this process has given the database up (1), or not any more (0)
 *
 * One stream per follower node and owner process. When the set of databases changes, the follower opens a
 * new stream and drops the old one once the new one says HELLO. Loop thread only.
 */
#ifndef HADB_NODE_STREAM_H
#define HADB_NODE_STREAM_H

#include "core/core.h"
#include "node/http_client.h"
#include "node/http_server.h"
#include "node/loop.h"
#include "node/objs.h"

#define HADB_STREAM_ENTRY_BYTES_MAX (256u << 10) /* larger entries are only marked */
#define HADB_STREAM_HEAD_BYTES 5u                /* of a frame: length and type */
#define HADB_STREAM_FIXED_BYTES_MAX 37u          /* … and all of it but an entry's bytes */
#define HADB_STREAM_BUFFER_BYTES_MAX (8u << 20)
#define HADB_STREAMS_MAX 256u /* followers' streams on one node */

enum hadb_stream_frame {
    HADB_FRAME_HELLO = 1,
    HADB_FRAME_ENTRY = 2,
    HADB_FRAME_MARK = 3,
    HADB_FRAME_BEAT = 4,
    HADB_FRAME_POKE = 5,
    HADB_FRAME_FREE = 6,
};

struct hadb_frame {
    enum hadb_stream_frame type;
    struct hadb_owner owner; /* HELLO */
    struct hadb_id db;       /* ENTRY, MARK, POKE, FREE */
    struct hadb_slice entry; /* ENTRY; borrowed */
    uint64_t term, slot;     /* MARK */
    bool given_up;           /* FREE */
};

struct hadb_node;
struct hadb_db;
struct hadb_peer;

/* One follower's stream, on the owner's side. */
struct hadb_outflow {
    struct hadb_node *node;
    struct hadb_http_stream *http;
    struct hadb_id follower;
    char name[HADB_NAME_BYTES_MAX + 1];
    char address[HADB_ADDRESS_BYTES_MAX + 1]; /* of its server; "" = it has none */
    struct hadb_id *dbs;                      /* sorted */
    size_t dbs_len;
    struct hadb_outflow *next;
};

struct hadb_streams {
    struct hadb_outflow *out;
    size_t out_len;
    struct hadb_timer beat;
    bool stopped;
};

/* stream_frame.c: pure, any thread */
/* Writes all but the bytes of an entry, which follow as they are; how many bytes that is. */
size_t hadb__frame_put(const struct hadb_frame *frame, uint8_t out[HADB_STREAM_FIXED_BYTES_MAX]);
/* Takes the first frame off *@rest. 0; HADB_ABSENT it is not there whole; HADB_EPROTO it never will be one. */
int hadb__frame_next(struct hadb_slice *rest, struct hadb_frame *out);

/* stream_out.c: the owner's side */
int hadb__streams_start(struct hadb_node *node, struct hadb_error *err);
void hadb__streams_stop(struct hadb_node *node);
void hadb__stream_accept(struct hadb_node *node, struct hadb_http_exchange *exchange,
                         const struct hadb_http_request *request);
void hadb__stream_send_entry(struct hadb_db *db, const struct hadb_obj *obj);
void hadb__stream_send_mark(struct hadb_db *db, uint64_t term, uint64_t slot);
void hadb__stream_send_poke(struct hadb_db *db);
void hadb__stream_send_free(struct hadb_db *db); /* db->given_up changed */
/* A follower that streams this database: whom to hand over to. NULL when there is none. */
const struct hadb_id *hadb__stream_follower(struct hadb_db *db);

/* stream_in.c: the follower's side */
void hadb__link_update(struct hadb_peer *peer); /* databases or address changed */
void hadb__link_close(struct hadb_peer *peer);  /* peer->link is NULL afterwards */
/* The database came to this owner: if its stream is up, the machine hears of it. */
void hadb__link_tell(struct hadb_peer *peer, struct hadb_db *db);
#endif
