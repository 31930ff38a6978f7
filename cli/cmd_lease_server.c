/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb lease-server: the REST service of docs/lease-http.md over any lease store (cli/rest_server.h is its frame).
 *
 * Thread: one per connection, so that a GET may be held back.
 * Invariants: nothing is kept here. A request that the store could not settle is a 5xx: its client calls it unknown.
 * Happy path: one call of the store, one answer.
 * Failure modes: every refusal is one of the table in docs/lease-http.md.
 */
#include <string.h>

#include "cli/rest_server.h"

#define WAIT_MS_MAX 60000u
#define CONNECTION_BYTES ((size_t)32 << 10)

static struct hadb_lease lease; /* const while it serves */

static int open_lease(const char *url, struct hadb_error *err)
{
    return hadb_lease_open(url, NULL, &lease, err);
}

static void close_lease(void)
{
    hadb_lease_close(&lease);
}

static enum MHD_Result send_record(struct rest_exchange *x, unsigned status,
                                   const struct hadb_buf *record, const struct hadb_tag *tag)
{
    char etag[HADB_TAG_MAX + 1];
    if (!rest_etag_write(tag, etag)) {
        return rest_refuse(x, MHD_HTTP_BAD_GATEWAY, "EIO", "a tag of the store is too long");
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(
        record ? record->len : 0, record && record->len ? record->data : (void *)"",
        MHD_RESPMEM_MUST_COPY);
    if (response != NULL) {
        MHD_add_response_header(response, "ETag", etag);
        MHD_add_response_header(response, "Content-Type", "application/octet-stream");
    }
    return rest_send(x, status, response);
}

/* Holds a GET back until the record is another one than @seen, or the time is over. */
static void hold(struct rest_exchange *x, const char *key, const struct hadb_tag *seen, uint64_t ms)
{
    struct hadb_call call = rest_call_held(x, ms);
    (void)hadb_lease_watch(&lease, &call, key, seen, NULL); /* reading tells what it is */
}

static enum MHD_Result get(struct rest_exchange *x, const char *key)
{
    const char *etag = rest_header(x, "If-None-Match");
    struct hadb_error err = {0};
    struct hadb_buf record = {0};
    struct hadb_tag tag = {0}, seen = {0};
    uint64_t wait_ms = 0;
    if (!rest_number(rest_argument(x, "wait_ms"), WAIT_MS_MAX, 0, &wait_ms)) {
        return rest_refuse(x, MHD_HTTP_BAD_REQUEST, "EINVAL", "wait_ms is 1 to 60000");
    }
    bool known = etag != NULL && rest_etag_read(etag, &seen);
    if (wait_ms > 0 && (known || etag == NULL)) {
        hold(x, key, known ? &seen : NULL, wait_ms);
        x->call.deadline_ms += wait_ms;
    }
    int r = hadb_lease_read(&lease, &x->call, key, &record, &tag, &err);
    enum MHD_Result done =
        r == HADB_ABSENT ? rest_refuse(x, MHD_HTTP_NOT_FOUND, "ABSENT", "there is no record")
        : r != 0         ? rest_refuse_error(x, &err)
        : known && strcmp(tag.s, seen.s) == 0 ? send_record(x, MHD_HTTP_NOT_MODIFIED, NULL, &tag)
                                              : send_record(x, MHD_HTTP_OK, &record, &tag);
    hadb_buf_deinit(&record);
    return done;
}

static enum MHD_Result put(struct rest_exchange *x, const char *key)
{
    struct hadb_error err = {0};
    struct hadb_tag expected, tag;
    bool creates = false;
    enum MHD_Result refused = MHD_NO;
    if (!rest_condition(x, &creates, &expected, &refused)) {
        return refused;
    }
    struct hadb_slice record = {.data = x->body.data, .len = x->body.len};
    int r = hadb_lease_write_if_match(&lease, &x->call, key, record, creates ? NULL : &expected,
                                      &tag, &err);
    if (r == HADB_CAS_LOST) {
        return rest_refuse(x, MHD_HTTP_PRECONDITION_FAILED, "LOST",
                           "the record is another one by now");
    }
    return r ? rest_refuse_error(x, &err)
             : send_record(x, creates ? MHD_HTTP_CREATED : MHD_HTTP_OK, NULL, &tag);
}

static enum MHD_Result answer(struct rest_exchange *x)
{
    if (x->tail[0] == '\0') {
        return rest_refuse(x, MHD_HTTP_NOT_FOUND, "NOT_FOUND", "records are at /v1/lease/KEY");
    }
    const char *key = x->tail + 1;
    return rest_reads(x)                   ? get(x, key)
           : strcmp(x->method, "PUT") == 0 ? put(x, key)
                                           : rest_refuse_method(x, "GET, HEAD, PUT");
}

static int run_lease_server(int argc, char **argv)
{
    static const struct rest_service service = {
        .command = &cli_lease_server,
        .store_option = "lease",
        .listen_default = "127.0.0.1:4290",
        .base = "/v1/lease",
        .not_found = "records are at /v1/lease/KEY",
        .too_big = "a record has 65536 bytes at most",
        .body_bytes_max = HADB_LEASE_RECORD_BYTES_MAX,
        .connection_bytes = CONNECTION_BYTES,
        .open = open_lease,
        .close = close_lease,
        .answer = answer,
    };
    return rest_server_run(&service, argc, argv);
}

const struct cli_command cli_lease_server = {
    .name = "lease-server",
    .usage = "--lease URL [--listen ADDR:PORT] [options]",
    .summary = "serve a lease store to nodes over HTTP",
    .help =
        "Nodes then take --lease http://ADDR:PORT (docs/lease-http.md). Prints 'ready ADDR:PORT "
        "pid N'\nonce it answers; SIGTERM ends it.\n\n"
        "  --lease URL         the store behind it: file:///dir, s3://…, redis://… and so on;\n"
        "                      mem: forgets everything when the server ends\n"
        "  --listen ADDR:PORT  default 127.0.0.1:4290; port 0 picks one\n" REST_SERVER_HELP,
    .run = run_lease_server,
};
