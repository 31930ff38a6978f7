/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request to a REST service of ours: what may be asked of it, and how it is answered.
 *
 * Thread: that of its connection.
 * Invariants: every refusal is {"error":NAME,"message":TEXT} with its name in Hadb-Error as well, since an answer to HEAD
 * has no body. A tag of the store becomes an ETag by escaping, and back.
 * Failure modes: without memory for an answer the connection ends, which leaves a write unknown to its client.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/rest_private.h"

/* --- what is asked ------------------------------------------------------------------------------ */

const char *rest_header(const struct rest_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

const char *rest_argument(const struct rest_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool rest_number(const char *text, uint64_t max, uint64_t fallback, uint64_t *out)
{
    uint64_t value = 0;
    *out = fallback;
    if (text == NULL) {
        return true;
    }
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9' || value > max) {
            return false;
        }
        value = value * 10 + (uint64_t)(*c - '0');
    }
    *out = value;
    return value >= 1 && value <= max;
}

bool rest_reads(const struct rest_exchange *x)
{
    return strcmp(x->method, "GET") == 0 || strcmp(x->method, "HEAD") == 0;
}

/* --- answers ------------------------------------------------------------------------------------ */

enum MHD_Result rest_send(struct rest_exchange *x, unsigned status,
                          struct MHD_Response *take_response)
{
    if (take_response == NULL) {
        return MHD_NO;
    }
    MHD_add_response_header(take_response, "Cache-Control", "no-store");
    if (rest_server_is_ending(x->server)) {
        MHD_add_response_header(take_response, "Connection", "close");
    }
    enum MHD_Result r = MHD_queue_response(x->connection, status, take_response);
    MHD_destroy_response(take_response);
    return r;
}

static struct MHD_Response *refusal(const char *name, const char *message)
{
    json_t *object = json_pack("{s:s, s:s}", "error", name, "message", message);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    struct MHD_Response *response =
        text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (response == NULL) {
        free(text);
        return NULL;
    }
    MHD_add_response_header(response, "Content-Type", "application/json");
    MHD_add_response_header(response, "Hadb-Error", name);
    return response;
}

enum MHD_Result rest_refuse(struct rest_exchange *x, unsigned status, const char *name,
                            const char *message)
{
    struct MHD_Response *response = refusal(name, message);
    if (response != NULL && status == MHD_HTTP_UNAUTHORIZED) {
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    }
    return rest_send(x, status, response);
}

enum MHD_Result rest_refuse_method(struct rest_exchange *x, const char *allowed)
{
    char text[64];
    snprintf(text, sizeof text, "use one of %s", allowed);
    struct MHD_Response *response = refusal("EINVAL", text);
    if (response != NULL) {
        MHD_add_response_header(response, "Allow", allowed);
    }
    return rest_send(x, MHD_HTTP_METHOD_NOT_ALLOWED, response);
}

enum MHD_Result rest_refuse_error(struct rest_exchange *x, const struct hadb_error *err)
{
    unsigned status = err->code == HADB_EINVAL      ? MHD_HTTP_BAD_REQUEST
                      : err->code == HADB_ETOOBIG   ? MHD_HTTP_CONTENT_TOO_LARGE
                      : err->code == HADB_EUNAVAIL  ? MHD_HTTP_SERVICE_UNAVAILABLE
                      : err->code == HADB_ECANCELED ? MHD_HTTP_SERVICE_UNAVAILABLE
                      : err->code == HADB_ETIMEDOUT ? MHD_HTTP_GATEWAY_TIMEOUT
                                                    : MHD_HTTP_BAD_GATEWAY;
    return rest_refuse(x, status, hadb_code_name(err->code),
                       err->message[0] ? err->message : hadb_code_text(err->code));
}

/* Bytes on their way out; freed by the HTTP library. */
struct outgoing {
    struct rest_server *server;
    struct hadb_buf bytes;
};

static void outgoing_free(void *arg)
{
    struct outgoing *out = arg;
    rest_server_give_room(out->server, out->bytes.len);
    hadb_buf_deinit(&out->bytes);
    free(out);
}

struct MHD_Response *rest_response(struct rest_exchange *x, struct hadb_buf *take_bytes)
{
    struct outgoing *out = malloc(sizeof *out);
    if (out == NULL || !rest_server_take_room(x->server, take_bytes->len)) {
        free(out);
        hadb_buf_deinit(take_bytes);
        return NULL;
    }
    *out = (struct outgoing){.server = x->server, .bytes = *take_bytes};
    *take_bytes = (struct hadb_buf){0};
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        out->bytes.len, out->bytes.len ? (void *)out->bytes.data : (void *)"", outgoing_free, out);
    if (response == NULL) {
        outgoing_free(out);
    }
    return response;
}

/* --- tags and conditions ------------------------------------------------------------------------ */

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
}

bool rest_etag_write(const struct hadb_tag *tag, char out[HADB_TAG_MAX + 1])
{
    size_t at = 0;
    out[at++] = '"';
    for (const char *c = tag->s; *c; c++) {
        if (at + 5 > HADB_TAG_MAX) {
            return false;
        }
        at += (size_t)snprintf(out + at, 4, is_plain(*c) ? "%c" : "%%%02X", (unsigned char)*c);
    }
    out[at++] = '"';
    out[at] = '\0';
    return true;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool rest_etag_read(const char *etag, struct hadb_tag *out)
{
    size_t len = strlen(etag), used = 0;
    if (len < 3 || len > HADB_TAG_MAX || etag[0] != '"' || etag[len - 1] != '"') {
        return false;
    }
    *out = (struct hadb_tag){0};
    for (size_t i = 1; i < len - 1; i++) {
        int byte = is_plain(etag[i]) ? etag[i] : 0;
        if (etag[i] == '%' && i + 2 < len - 1 && hex_digit(etag[i + 1]) >= 0 &&
            hex_digit(etag[i + 2]) >= 0) {
            byte = hex_digit(etag[i + 1]) << 4 | hex_digit(etag[i + 2]);
            i += 2;
        }
        if (byte == 0) {
            return false;
        }
        out->s[used++] = (char)byte;
    }
    return true;
}

bool rest_condition(struct rest_exchange *x, bool *creates, struct hadb_tag *expected,
                    enum MHD_Result *refused)
{
    const char *match = rest_header(x, "If-Match"), *none = rest_header(x, "If-None-Match");
    if ((match == NULL) == (none == NULL)) {
        *refused = rest_refuse(x, MHD_HTTP_PRECONDITION_REQUIRED, "EINVAL",
                               "a write needs If-Match: \"TAG\", or If-None-Match: *");
        return false;
    }
    if (none != NULL && strcmp(none, "*") != 0) {
        *refused = rest_refuse(x, MHD_HTTP_BAD_REQUEST, "EINVAL", "If-None-Match of a write is *");
        return false;
    }
    if (match != NULL && !rest_etag_read(match, expected)) {
        *refused = rest_refuse(x, MHD_HTTP_PRECONDITION_FAILED, "LOST", "nothing has this tag");
        return false;
    }
    *creates = none != NULL;
    return true;
}
