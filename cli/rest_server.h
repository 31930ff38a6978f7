/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `hadb lease-server` and `hadb storage-server` have in common: a REST service over a store, in the foreground
 * until SIGTERM or SIGINT. Requests are answered on one thread per connection.
 */
#ifndef HADB_CLI_REST_SERVER_H
#define HADB_CLI_REST_SERVER_H
#include <microhttpd.h>

#include "cli/cli.h"

#define REST_CONNECTIONS_MAX 1024u
#define REST_CONNECTION_IDLE_S 120u
#define REST_ROOM_BYTES_MAX ((uint64_t)1 << 30) /* of bodies in memory, either way, all together */
#define REST_DEADLINE_MS_DEFAULT 10000u
#define REST_SHUTDOWN_MS_MAX 5000u /* then requests that still run are cancelled */

struct rest_server;

/* One request. Fields belong to the thread of its connection. */
struct rest_exchange {
    struct rest_server *server;
    struct MHD_Connection *connection;
    const char *method;
    const char *tail; /* of the path, behind the base: "" or "/…" */
    struct hadb_buf body;
    struct hadb_call call; /* as long as the client waits, and the server does */
    uint64_t room;         /* bytes taken of the server's */
    unsigned refused;      /* a status: the body is dropped, then this is the answer */
    const char *refused_name, *refused_message;
};

/* What a command brings. */
struct rest_service {
    const struct cli_command *command;
    const char *store_option; /* --NAME: the URL of the store behind it */
    const char *listen_default;
    const char *base; /* "/v1/lease" */
    const char *not_found, *too_big;
    size_t body_bytes_max;
    size_t connection_bytes; /* memory of the HTTP library: it reads in pieces of up to that */
    int (*open)(const char *url, struct hadb_error *err);
    void (*close)(void);
    enum MHD_Result (*answer)(struct rest_exchange *exchange);
};

/* Parses, listens, serves. Returns an exit code. */
int rest_server_run(const struct rest_service *service, int argc, char **argv);

#define REST_SERVER_HELP                                                                \
    "  --token-file FILE   bearer token of its clients (or HADB_TOKEN_FILE); required " \
    "beyond loopback\n"                                                                 \
    "  --tls-cert FILE     serve HTTPS with this certificate (PEM, with its chain)\n"   \
    "  --tls-key FILE      and this key\n"

/* ---- for answers ---- */
const char *rest_header(const struct rest_exchange *x, const char *name);   /* NULL = absent */
const char *rest_argument(const struct rest_exchange *x, const char *name); /* of the query */
/* The number in @text, @fallback where that is NULL; false unless it is from 1 to @max. */
bool rest_number(const char *text, uint64_t max, uint64_t fallback, uint64_t *out);
bool rest_reads(const struct rest_exchange *x); /* GET or HEAD */
/* A call for what may be given up as soon as the server is to end. */
struct hadb_call rest_call_held(const struct rest_exchange *x, uint64_t ms);

/* {"error":NAME,"message":TEXT}, and NAME in Hadb-Error. */
enum MHD_Result rest_refuse(struct rest_exchange *x, unsigned status, const char *name,
                            const char *message);
enum MHD_Result rest_refuse_method(struct rest_exchange *x, const char *allowed);
enum MHD_Result rest_refuse_error(struct rest_exchange *x, const struct hadb_error *err);
enum MHD_Result rest_send(struct rest_exchange *x, unsigned status,
                          struct MHD_Response *take_response);
/* Bytes of hadb_buf's as a response, freed when they are sent. NULL: no memory, or no room in the server. */
struct MHD_Response *rest_response(struct rest_exchange *x, struct hadb_buf *take_bytes);

/* A tag as an ETag: in quotes, with everything unusual as %XX. False when it does not fit a tag of its client's. */
bool rest_etag_write(const struct hadb_tag *tag, char out[HADB_TAG_MAX + 1]);
/* The reverse; false when @etag is none of ours. */
bool rest_etag_read(const char *etag, struct hadb_tag *out);
/* The conditions of a PUT: true with *expected (*creates: none, the key must be absent), or else it is refused. */
bool rest_condition(struct rest_exchange *x, bool *creates, struct hadb_tag *expected,
                    enum MHD_Result *refused);
#endif
