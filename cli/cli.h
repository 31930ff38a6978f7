/* SPDX-License-Identifier: Apache-2.0 */
/* The program hadb: what its commands share. Public headers only; one thread. */
#ifndef HADB_CLI_H
#define HADB_CLI_H

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>

#include "hadb/hadb.h"

/* Exit codes; documented in `hadb --help` and docs/cli.md. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,      /* it did not work; the message says why */
    CLI_USAGE = 2,       /* the command line is wrong, or a name, value or key in it */
    CLI_ABSENT = 3,      /* no such key, database, file or folder */
    CLI_NOT_MET = 4,     /* the condition does not hold; nothing was written */
    CLI_UNAVAILABLE = 5, /* surely not done: no leader, no answer */
    CLI_UNKNOWN = 6,     /* may or may not have been done: repeat with the same request id */
    CLI_CORRUPT = 7,     /* data fails its checks, or is missing */
    CLI_AUTH = 8,        /* token wrong or missing, or permission denied */
};

struct cli_command {
    const char *name;
    const char *usage;                 /* behind the name */
    const char *summary;               /* one line */
    const char *help;                  /* options and notes */
    int (*run)(int argc, char **argv); /* argv[0] is the name; returns enum cli_exit */
};

extern const struct cli_command cli_node, cli_put, cli_get, cli_del, cli_scan, cli_load, cli_status,
    cli_handoff, cli_verify, cli_restore, cli_inspect, cli_lease_server, cli_storage_server,
    cli_doctor;

#define CLI_MESSAGE_BYTES 1024u /* longer messages are cut */

/* ---- messages (stderr) ---- */
/* Whose messages follow: "hadb VERB: message". With @json errors are {"error":NAME,"message":TEXT}. */
void cli_begin(const struct cli_command *command, bool json);
int cli_usage(const struct cli_command *command, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* prints and returns CLI_USAGE */
int cli_fail(int exit_code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int cli_fail_error(const struct hadb_error *err); /* prints it and returns the fitting exit code */
int cli_exit_of(const struct hadb_error *err);    /* that code alone */
int cli_fail_file(const char *path, int reason);  /* @reason: an errno */
/* An answer's error. @name and @request_id may be NULL. */
int cli_fail_reply(int exit_code, const char *name, const char *request_id, const char *message);
int cli_output_failed(void); /* stdout does not take it; right after the call that set errno */
void cli_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int cli_help(const struct cli_command *command); /* stdout; returns CLI_OK */

/* ---- options that client commands share ---- */
#define CLI_NODES_MAX 16u
#define CLI_ADDRESS_BYTES 264u /* host of 253, brackets, colon, port, NUL */
#define CLI_TOKEN_BYTES \
    (HADB_TOKEN_BYTES_MAX + 4) /* with a line end, NUL, and room for one too many */

struct cli_client {
    const char *node;                             /* --node or HADB_NODE as it was written */
    const char *token_file;                       /* --token-file */
    const char *database;                         /* --db */
    const char *read;                             /* --read */
    const char *bookmark;                         /* --bookmark */
    const char *ack;                              /* --ack */
    const char *request_id;                       /* --request-id */
    uint64_t max_lag_ms;                          /* --max-lag-ms; 0 = none */
    uint64_t deadline_ms;                         /* --deadline-ms; 0 = default */
    bool json;                                    /* --json */
    char nodes[CLI_NODES_MAX][CLI_ADDRESS_BYTES]; /* from node */
    size_t nodes_len, node_at;                    /* the one that is asked */
    char token[CLI_TOKEN_BYTES];                  /* "" = none */
    void *curl;                                   /* private */
};

/* Values of getopt_long for the shared options; commands number their own from CLI_OPT_OWN. */
enum {
    CLI_OPT_NODE = 256,
    CLI_OPT_TOKEN_FILE,
    CLI_OPT_DB,
    CLI_OPT_READ,
    CLI_OPT_MAX_LAG,
    CLI_OPT_BOOKMARK,
    CLI_OPT_ACK,
    CLI_OPT_REQUEST_ID,
    CLI_OPT_DEADLINE,
    CLI_OPT_JSON,
    CLI_OPT_OWN
};
/* Each command lists what it understands, and nothing else. --help is main's. */
/* clang-format off */
#define CLI_CLIENT_OPTIONS \
    {"node", required_argument, NULL, CLI_OPT_NODE}, \
    {"token-file", required_argument, NULL, CLI_OPT_TOKEN_FILE}, \
    {"deadline-ms", required_argument, NULL, CLI_OPT_DEADLINE}, \
    {"json", no_argument, NULL, CLI_OPT_JSON}
#define CLI_DB_OPTION {"db", required_argument, NULL, CLI_OPT_DB}
#define CLI_ACK_OPTION {"ack", required_argument, NULL, CLI_OPT_ACK}
#define CLI_REQUEST_ID_OPTION {"request-id", required_argument, NULL, CLI_OPT_REQUEST_ID}
#define CLI_READ_OPTIONS \
    {"read", required_argument, NULL, CLI_OPT_READ}, \
    {"max-lag-ms", required_argument, NULL, CLI_OPT_MAX_LAG}, \
    {"bookmark", required_argument, NULL, CLI_OPT_BOOKMARK}
/* clang-format on */
#define CLI_CLIENT_HELP                                                                       \
    "  --node ADDR:PORT    any node of the cluster, or several with commas: the first that\n" \
    "                      answers (or HADB_NODE; default 127.0.0.1:4280)\n"                  \
    "  --token-file FILE   bearer token (or HADB_TOKEN_FILE)\n"                               \
    "  --deadline-ms N     give up after this long (default 10000)\n"                         \
    "  --json              one JSON object on stdout; errors, too, but on stderr\n"
#define CLI_READ_HELP                                                                         \
    "  --read LEVEL        any, bookmark, bounded or linearizable (default)\n"                \
    "  --max-lag-ms N      bounded: the answer holds all that was acknowledged N ms before\n" \
    "  --bookmark B        wait for a state that covers B\n"

/* The next option as getopt_long gives it; '?' once a message has said what is wrong with it. */
int cli_option(const struct cli_command *command, int argc, char **argv,
               const struct option *options);
/* The number in @text; CLI_USAGE and a message about --@name unless it is from @lo to @hi. */
int cli_number(const struct cli_command *command, const char *name, const char *text, uint64_t lo,
               uint64_t hi, uint64_t *out);
/* Takes one shared option. 0, or an exit code (message printed). */
int cli_client_option(struct cli_client *client, const struct cli_command *command, int option,
                      const char *value);
/* Reads the environment and the token, and checks what is required. 0 or an exit code. */
int cli_client_complete(struct cli_client *client, const struct cli_command *command,
                        bool needs_db);
/* The token in @path or HADB_TOKEN_FILE; "" if neither is given. 0 or an exit code. */
int cli_read_token(const char *path, char token[CLI_TOKEN_BYTES]);
/* As many open files as this process may have: stores, clients and peers need them. */
void cli_raise_files(void);
/* cli_client_complete(), and ready for requests. */
int cli_client_open(struct cli_client *client, const struct cli_command *command, bool needs_db);
void cli_client_close(struct cli_client *client);

/* ---- requests ---- */
struct cli_reply {
    long status;         /* HTTP; 0 = no answer, see error */
    bool maybe_done;     /* no answer after it was sent */
    bool read;           /* it changes nothing: no outcome can be open */
    char version[64];    /* Hadb-Version */
    char bookmark[128];  /* Hadb-Bookmark */
    char request_id[64]; /* Hadb-Request-Id */
    char error[256];
    struct hadb_buf body;
};
/* One request; @path starts with '/'. @body may be NULL. True if any answer came. */
bool cli_request(struct cli_client *client, const char *method, const char *path, const void *body,
                 size_t body_len, struct cli_reply *reply);
void cli_reply_deinit(struct cli_reply *reply);
/* For any status but 200: prints the node's message and returns the fitting exit code. */
int cli_reply_failed(const struct cli_client *client, const struct cli_reply *reply);
/* The node that was asked last. */
const char *cli_node_asked(const struct cli_client *client);
/* /v1/db/<db>/<what>[/<key>][?query], with @key percent-encoded; to be freed. NULL when out of memory. */
char *cli_db_path(const struct cli_client *client, const char *what, const void *key,
                  size_t key_len, const char *query);
/* Appends name=value to a query in @buf (of @cap bytes), percent-encoded. False when it does not fit. */
bool cli_query_add(struct cli_client *client, char *buf, size_t cap, const char *name,
                   const char *value);
/* A UUIDv7 in its text form. */
void cli_request_id(char out[37]);

/* ---- output ---- */
/* Sets name to a string, or name_base64 if the bytes are not UTF-8. */
void cli_json_bytes(json_t *object, const char *name, const void *data, size_t len);
/* The reverse: 1 found, 0 neither there, -1 wrong type or bad base64. */
int cli_json_take_bytes(const json_t *object, const char *name, struct hadb_buf *out);
int cli_print_json(json_t *take_object); /* one line on stdout, not flushed; CLI_OK or CLI_FAILED */
bool cli_append(struct hadb_buf *buf, const void *data,
                size_t len); /* malloc-based buffers of the CLI */
void cli_buf_free(struct hadb_buf *buf);
bool cli_read_all(FILE *in, size_t bytes_max,
                  struct hadb_buf *out); /* false: too big or unreadable */

/* A progress bar on a terminal, silent elsewhere. */
struct cli_progress {
    const char *what;
    uint64_t total; /* 0 = unknown */
    double started_s;
    double shown_s;
    bool on;
};
void cli_progress_start(struct cli_progress *progress, const char *what, uint64_t total);
void cli_progress_show(struct cli_progress *progress, uint64_t done, const char *unit);
void cli_progress_end(struct cli_progress *progress);
double cli_now_s(void);
#endif
