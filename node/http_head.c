/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of a request: is it well-formed, within the limits, authorised, and is its body welcome?
 *
 * Thread: the loop.
 * Invariants: nothing of a request reaches a handler before its whole head has passed. No byte of the head is hidden: what
 * libmicrohttpd gives as strings must account for every byte that came in, so that a NUL cannot end a header
 * early and a folded line cannot carry another one.
 * Failure modes: 400, 401, 413, 414, 417, 431, 503; see docs/http.md.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/url.h"
#include "node/http_server_private.h"

/* libmicrohttpd from here on refuses NUL and folding by itself, and may lay out a head in another way. */
#define MHD_STRICT_SINCE "0.9.76"

static const struct {
    const char *text;
    enum hadb_http_method method;
} methods[] = {
    {"GET", HADB_HTTP_GET},   {"HEAD", HADB_HTTP_HEAD},     {"PUT", HADB_HTTP_PUT},
    {"POST", HADB_HTTP_POST}, {"DELETE", HADB_HTTP_DELETE},
};

struct head_facts {
    unsigned headers_len, hosts_len, lengths_len, codings_len, tokens_len;
    bool chunked;
    bool bad_name;
    bool too_long;
    bool expects, expects_unknown;
    bool accountable;
    bool hidden;     /* bytes that belong to no header */
    const char *end; /* of what was accounted for last */
    uint64_t length;
    size_t head_len;
};

void hadb__http_refuse(struct hadb_http_exchange *x, unsigned status, int code, const char *text)
{
    if (!x->refused) {
        x->refused = status;
        x->refused_code = code;
        x->refused_text = text;
    }
}

size_t hadb__http_bodies_left(const struct hadb_http_server *server)
{
    return server->bodies_bytes_max - HADB_MIN(server->bodies_bytes, server->bodies_bytes_max);
}

/* Characters of a header name (RFC 9110 5.6.2): a blank before the colon would hide a header from us. */
static bool is_token(const char *s)
{
    for (const char *p = s; *p; p++) {
        if (*p <= ' ' || *p >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", *p)) {
            return false;
        }
    }
    return *s != '\0';
}

/* From the end of what was accounted for last to @to there are ends of lines and nothing else: a header that was
 * put together from folded lines lies elsewhere. */
static void account(struct head_facts *facts, const char *to, size_t gap_min, size_t gap_max)
{
    size_t gap = (size_t)((uintptr_t)to - (uintptr_t)facts->end);
    facts->hidden |= gap < gap_min || gap > gap_max;
    for (size_t i = 0; !facts->hidden && i < gap; i++) { /* libmicrohttpd makes some of them NUL */
        facts->hidden = facts->end[i] != '\0' && facts->end[i] != '\r' && facts->end[i] != '\n';
    }
}

static enum MHD_Result collect_fact(void *cls, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    struct head_facts *facts = cls;
    (void)kind;
    value = value ? value : name + strlen(name) + 1;
    size_t value_len = strlen(value);
    if (facts->accountable) {
        account(facts, name, 1, 2);
        facts->end = value + value_len;
    }
    facts->headers_len++;
    facts->too_long |= strlen(name) + value_len > HADB_HTTP_HEADER_BYTES_MAX;
    if (!is_token(name)) {
        facts->bad_name = true;
    } else if (strcasecmp(name, "Host") == 0) {
        facts->hosts_len++;
    } else if (strcasecmp(name, "Content-Length") == 0) {
        facts->lengths_len++;
        facts->bad_name |= !hadb_parse_u64(value, 0, UINT64_MAX, &facts->length);
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        facts->codings_len++;
        facts->chunked = strcasecmp(value, "chunked") == 0;
    } else if (strcasecmp(name, "Expect") == 0) {
        facts->expects = true;
        facts->expects_unknown |= strcasecmp(value, "100-continue") != 0;
    } else if (strcasecmp(name, "Authorization") == 0) {
        facts->tokens_len++;
    }
    return MHD_YES;
}

/* True where the layout of a head in memory is the one that account() knows. */
static bool accountable(void)
{
    return strverscmp(MHD_get_version(), MHD_STRICT_SINCE) < 0;
}

static void collect(struct MHD_Connection *mhd, const char *method, const char *version,
                    struct head_facts *facts)
{
    size_t head_len = facts->head_len =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;
    facts->accountable = accountable();
    facts->end = version + strlen(version);
    MHD_get_connection_values(mhd, MHD_HEADER_KIND, collect_fact, facts);
    if (facts->accountable) {
        account(facts, method + head_len, 2, 4); /* the last end of line, and the empty line */
    }
    facts->too_long |=
        head_len > HADB_HTTP_HEAD_BYTES_MAX || facts->headers_len > HADB_HTTP_HEADERS_MAX;
}

/* The target must be printable and reach up to the blank before the version: a NUL or blank inside
 * would make us see another key than the one that was meant. */
static bool target_ok(const struct hadb_http_exchange *x, const char *version)
{
    for (size_t i = 0; i < x->uri_len; i++) {
        unsigned char c = (unsigned char)x->uri[i];
        if (c <= ' ' || c == 0x7f) {
            return false;
        }
    }
    return x->uri_len > 0 && x->mhd_uri && version == x->mhd_uri + x->uri_len + 1;
}

static bool authorised(struct hadb_http_exchange *x, struct MHD_Connection *mhd)
{
    struct hadb_http_server *server = x->server;
    if (!server->token) {
        x->conn->trusted = true;
        return true;
    }
    if (server->exempt && server->exempt(server->arg, x->method, hadb_slice(x->uri, x->path_len))) {
        return true;
    }
    const char *value = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Authorization");
    if (!value || strncasecmp(value, "Bearer ", 7) != 0) {
        return false;
    }
    value += 7;
    while (*value == ' ') {
        value++;
    }
    bool right = hadb_secret_eq(value, server->token);
    x->conn->trusted |= right;
    return right;
}

static void check_form(struct hadb_http_exchange *x, const char *version,
                       const struct head_facts *facts)
{
    if (!target_ok(x, version)) {
        hadb__http_refuse(
            x, 400, HADB_EPROTO,
            "malformed request target: percent-encode blanks, control characters and NUL");
    } else if (x->uri_len > HADB_HTTP_TARGET_BYTES_MAX) {
        hadb__http_refuse(x, 414, HADB_ETOOBIG, HADB_HTTP_TARGET_TOO_LONG);
    } else if (facts->too_long) {
        hadb__http_refuse(x, 431, HADB_ETOOBIG, HADB_HTTP_HEAD_TOO_LONG);
    } else if (facts->hidden) {
        hadb__http_refuse(x, 400, HADB_EPROTO,
                          "malformed headers: send no NUL, no folded and no nameless header");
    } else if (facts->bad_name || facts->lengths_len > 1 || facts->codings_len > 1 ||
               (facts->codings_len && (facts->lengths_len || !facts->chunked))) {
        hadb__http_refuse(
            x, 400, HADB_EPROTO,
            "malformed headers: send one Content-Length, or Transfer-Encoding: chunked");
    } else if (facts->hosts_len != 1 && strcmp(version, "HTTP/1.0") != 0) {
        hadb__http_refuse(x, 400, HADB_EPROTO, "malformed headers: send exactly one Host");
    } else if (facts->tokens_len > 1) {
        hadb__http_refuse(x, 400, HADB_EPROTO, "malformed headers: send one Authorization");
    }
}

bool hadb__http_check_head(struct hadb_http_exchange *x, struct MHD_Connection *mhd,
                           const char *method, const char *version)
{
    struct hadb_http_server *server = x->server;
    struct head_facts facts = {0};
    for (size_t i = 0; i < HADB_LEN(methods); i++) {
        if (strcmp(methods[i].text, method) == 0) {
            x->method = methods[i].method;
        }
    }
    collect(mhd, method, version, &facts);
    size_t max = server->body_max
                     ? server->body_max(server->arg, x->method, hadb_slice(x->uri, x->path_len))
                     : 0;
    x->body_bytes_max = max ? HADB_MIN(max, server->body_bytes_max) : server->body_bytes_max;
    x->body_expected = facts.length;
    x->head_len = facts.head_len;
    x->chunked = facts.codings_len > 0;
    check_form(x, version, &facts);
    if (x->refused) {
        return false; /* who knows where the body ends */
    }
    if (!authorised(x, mhd)) {
        hadb__http_refuse(x, 401, HADB_EAUTH,
                          "wrong or missing token: send it as 'Authorization: Bearer TOKEN'");
    } else if (facts.expects_unknown) {
        hadb__http_refuse(x, 417, HADB_EPROTO, "header Expect: 100-continue or nothing");
    } else if (facts.length > x->body_bytes_max) {
        hadb__http_refuse(x, 413, HADB_ETOOBIG, NULL);
    } else if (facts.length > hadb__http_bodies_left(server)) {
        hadb__http_refuse(x, 503, HADB_EBUSY, "too many large requests at once: try again later");
    }
    return !facts.expects && !facts.codings_len && facts.length <= HADB_HTTP_DISCARD_BYTES_MAX;
}
