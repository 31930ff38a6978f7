/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 1 of 8: what an HTTP request says in its query, headers and JSON members, read strictly.
 *
 * Thread: the loop.
 * Invariants: what is not understood is refused by name, never ignored: a condition that is misspelt must not
 * become a write without condition. A message says what is wrong and what is allowed there.
 * Failure modes: HADB_EINVAL; HADB_ETOOBIG for a batch of too many operations; HADB_ENOMEM.
 */
#include "node/api_private.h"

#include "base/url.h"

#include <stdio.h>
#include <strings.h>

#define QUOTED_BYTES_MAX 40 /* of a client's text, in a message */
#define LIST_BYTES_MAX 128
#define BATCH_MEMBERS_MAX 7 /* that an operation may have */

/* "a, b, c" of a NULL-terminated list. */
static void join(const char *const *names, char out[LIST_BYTES_MAX])
{
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; names[i]; i++) {
        int n = snprintf(out + len, LIST_BYTES_MAX - len, "%s%s", i ? ", " : "", names[i]);
        len += (size_t)n;
        HADB_ASSERT(len < LIST_BYTES_MAX);
    }
}

static bool listed(const char *const *names, struct hadb_slice name)
{
    for (size_t i = 0; names[i]; i++) {
        if (hadb_slice_eq(name, hadb_slice_str(names[i]))) {
            return true;
        }
    }
    return false;
}

/* ---- query ---- */

static int check_param(struct hadb_slice query, struct hadb_slice param, const char *const *names,
                       struct hadb_error *err)
{
    const char *text = param.data;
    const char *eq = param.len ? memchr(text, '=', param.len) : NULL;
    struct hadb_slice name = hadb_slice(text, eq ? (size_t)(eq - text) : param.len);
    struct hadb_slice first;
    char allowed[LIST_BYTES_MAX], quoted[QUOTED_BYTES_MAX + 1];
    join(names, allowed);
    snprintf(quoted, sizeof quoted, "%.*s", (int)name.len, name.len ? text : "");
    if (param.len == 0) {
        return hadb_fail(err, HADB_EINVAL, "an empty query parameter: allowed here: %s",
                         names[0] ? allowed : "none");
    }
    if (!listed(names, name)) {
        return hadb_fail(err, HADB_EINVAL, "unknown query parameter '%s': allowed here: %s", quoted,
                         names[0] ? allowed : "none");
    }
    const char *value = eq ? eq + 1 : text + param.len;
    struct hadb_slice before = hadb_slice(query.data, (size_t)(text - (const char *)query.data));
    if (hadb_http_query_find(before, quoted, &first)) {
        return hadb_fail(err, HADB_EINVAL, "query parameter %s: give it once", quoted);
    }
    struct hadb_buf decoded HADB_CLEANUP(hadb_buf_deinit) = {0};
    if (hadb_buf_reserve(&decoded, param.len) < 0) {
        return hadb_fail_nomem(err);
    }
    if (!hadb_percent_decode(value, param.len - (size_t)(value - text), &decoded)) {
        return hadb_fail(err, HADB_EINVAL, "query parameter %s is not percent-encoded properly",
                         quoted);
    }
    return 0;
}

int hadb__api_check_query(struct hadb_slice query, const char *const *names, struct hadb_error *err)
{
    if (query.len == 0) {
        return 0;
    }
    const char *p = query.data;
    const char *end = p + query.len;
    int r = 0;
    for (bool more = true; more && r == 0;) {
        const char *amp = p < end ? memchr(p, '&', (size_t)(end - p)) : NULL;
        r = check_param(query, hadb_slice(p, (size_t)((amp ? amp : end) - p)), names, err);
        more = amp != NULL;
        p = amp ? amp + 1 : end;
    }
    return r;
}

int hadb__api_flag(struct hadb_slice query, const char *name, bool *out, struct hadb_error *err)
{
    static const char *const yes[] = {"", "true", "1", NULL};
    static const char *const no[] = {"false", "0", NULL};
    struct hadb_slice value;
    *out = hadb_http_query_find(query, name, &value) && listed(yes, value);
    return *out || !hadb_http_query_find(query, name, &value) || listed(no, value)
               ? 0
               : hadb_fail(err, HADB_EINVAL, "query parameter %s: alone, or true or false", name);
}

static int bad_version(const char *where, struct hadb_error *err)
{
    return hadb_fail(err, HADB_EINVAL, "%s must be a version as Hadb-Version gave it", where);
}

static bool parse_version(const char *text, size_t len, struct hadb_version *out)
{
    return strlen(text) == len && hadb_version_parse(text, out) && out->txid > 0;
}

int hadb__api_conditions(struct hadb_slice query, struct hadb_kv_options *options,
                         struct hadb_error *err)
{
    struct hadb_buf text HADB_CLEANUP(hadb_buf_deinit) = {0};
    int r = hadb__api_flag(query, "if_absent", &options->if_absent, err);
    if (r < 0) {
        return r;
    }
    r = hadb_http_query_get(query, "if_version", &text, err);
    if (r != 0) {
        return r == HADB_ABSENT ? 0 : r;
    }
    if (options->if_absent) {
        return hadb_fail(err, HADB_EINVAL,
                         "if_absent and if_version exclude each other: give one of them");
    }
    const char *cstr = hadb_buf_cstr(&text);
    if (!cstr) {
        return hadb_fail_nomem(err);
    }
    return parse_version(cstr, text.len, &options->if_version)
               ? 0
               : bad_version("query parameter if_version", err);
}

/* ---- headers ---- */

#define HEADERS_OF_USERS                                                            \
    "Hadb-Request-Id", "Hadb-Ack", "Hadb-Read", "Hadb-Max-Lag-Ms", "Hadb-Bookmark", \
        "Hadb-Deadline-Ms"

/* Between nodes there are four more. */
static const char *const user_headers[] = {HEADERS_OF_USERS, NULL};
static const char *const all_headers[] = {HEADERS_OF_USERS, "Hadb-Hop",          "Hadb-Node",
                                          "Hadb-Node-Id",   "Hadb-Node-Address", NULL};

struct header_check {
    struct hadb_error *err;
    unsigned seen; /* bit per entry of all_headers */
    int r;
};

static bool check_header(void *arg, const char *name, const char *value)
{
    struct header_check *check = arg;
    (void)value;
    if (strncasecmp(name, "Hadb-", 5) != 0) {
        return true;
    }
    size_t i = 0;
    while (all_headers[i] && strcasecmp(name, all_headers[i]) != 0) {
        i++;
    }
    if (!all_headers[i]) {
        char known[LIST_BYTES_MAX];
        join(user_headers, known);
        check->r = hadb_fail(check->err, HADB_EINVAL, "unknown header %.*s: known are %s",
                             QUOTED_BYTES_MAX, name, known);
    } else if (check->seen & 1u << i) {
        check->r = hadb_fail(check->err, HADB_EINVAL, "header %s: give it once", all_headers[i]);
    }
    check->seen |= 1u << i;
    return check->r == 0;
}

int hadb__api_check_headers(const struct hadb_http_exchange *exchange, struct hadb_error *err)
{
    struct header_check check = {.err = err};
    hadb_http_request_headers(exchange, check_header, &check);
    return check.r;
}

static int read_level(const char *text, enum hadb_read_level *out, struct hadb_error *err)
{
    static const struct {
        const char *name;
        enum hadb_read_level level;
    } levels[] = {{"any", HADB_READ_ANY},
                  {"bookmark", HADB_READ_BOOKMARK},
                  {"bounded", HADB_READ_BOUNDED},
                  {"linearizable", HADB_READ_LINEARIZABLE}};
    for (size_t i = 0; i < HADB_LEN(levels); i++) {
        if (strcmp(text, levels[i].name) == 0) {
            *out = levels[i].level;
            return 0;
        }
    }
    return hadb_fail(err, HADB_EINVAL, "header Hadb-Read: any, bookmark, bounded or linearizable");
}

int hadb__api_options(const struct hadb_http_exchange *exchange, struct hadb_kv_options *options,
                      struct hadb_error *err)
{
    *options = (struct hadb_kv_options){.deadline_ms = HADB_DEADLINE_MS_DEFAULT};
    const char *id = hadb_http_request_header(exchange, "Hadb-Request-Id");
    const char *read = hadb_http_request_header(exchange, "Hadb-Read");
    const char *ack = hadb_http_request_header(exchange, "Hadb-Ack");
    const char *deadline = hadb_http_request_header(exchange, "Hadb-Deadline-Ms");
    options->bookmark = hadb_http_request_header(exchange, "Hadb-Bookmark");
    uint64_t ms = HADB_DEADLINE_MS_DEFAULT;
    if (id && (!hadb_id_parse(id, &options->request_id) || !hadb_id_is_v7(&options->request_id))) {
        return hadb_fail(err, HADB_EINVAL, "header Hadb-Request-Id: a UUID of version 7");
    }
    if (deadline && !hadb_parse_u64(deadline, 1, HADB_DEADLINE_MS_MAX, &ms)) {
        return hadb_fail(err, HADB_EINVAL, "header Hadb-Deadline-Ms: a whole number from 1 to %u",
                         HADB_DEADLINE_MS_MAX);
    }
    if (options->bookmark && !options->bookmark[0]) {
        return hadb_fail(err, HADB_EINVAL, "header Hadb-Bookmark: a bookmark as an answer gave it");
    }
    options->deadline_ms = (uint32_t)ms;
    const char *lag = hadb_http_request_header(exchange, "Hadb-Max-Lag-Ms");
    if (lag && !hadb_parse_u64(lag, 1, HADB_LAG_MS_MAX, &ms)) {
        return hadb_fail(err, HADB_EINVAL, "header Hadb-Max-Lag-Ms: a whole number from 1 to %u",
                         HADB_LAG_MS_MAX);
    }
    options->max_lag_ms = lag ? (uint32_t)ms : 0;
    int r = ack ? hadb_ack_parse(ack, &options->ack, err) : 0;
    return r < 0 || !read ? r : read_level(read, &options->read, err);
}

/* ---- JSON ---- */

int hadb__api_json_object(struct hadb_slice body, const char *const *names, const char *form,
                          json_t **out, struct hadb_error *err)
{
    json_error_t where;
    if (body.len == 0) {
        return hadb_fail(err, HADB_EINVAL, "the body is empty: it must be an object %s", form);
    }
    json_t *json = json_loadb(body.data, body.len,
                              JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    if (!json) {
        return hadb_fail(err, HADB_EINVAL, "the body is no proper JSON: line %d, column %d: %s",
                         where.line, where.column, where.text);
    }
    int r = json_is_object(json)
                ? hadb__api_json_members(json, names, "the body", err)
                : hadb_fail(err, HADB_EINVAL, "the body must be an object %s", form);
    if (r < 0) {
        json_decref(json);
        return r;
    }
    *out = json;
    return 0;
}

int hadb__api_json_members(json_t *object, const char *const *names, const char *where,
                           struct hadb_error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        if (!listed(names, hadb_slice_str(name))) {
            char allowed[LIST_BYTES_MAX];
            join(names, allowed);
            return hadb_fail(err, HADB_EINVAL, "%s: unknown member '%.*s': allowed are %s", where,
                             QUOTED_BYTES_MAX, name, allowed);
        }
    }
    return 0;
}

/* ---- a batch ---- */

#define BATCH_FORM "{\"ops\":[{\"op\":\"put\",\"key\":\"k\",\"value\":\"v\"}]}"

/* "key" or "key_base64", and exactly one of them. */
static int batch_bytes(const json_t *item, const char *name, const char *where,
                       struct hadb_buf *out, struct hadb_error *err)
{
    char base64[32];
    snprintf(base64, sizeof base64, "%s_base64", name);
    bool both = json_object_get(item, name) && json_object_get(item, base64);
    int r = both ? HADB_EINVAL : hadb__json_get_bytes(item, name, out);
    if (both) {
        return hadb_fail(err, r, "%s: %s and %s exclude each other", where, name, base64);
    }
    if (r == HADB_ENOMEM) {
        return hadb_fail_nomem(err);
    }
    return r == 0 ? 0
                  : hadb_fail(err, HADB_EINVAL,
                              "%s: %s must be a string, or %s a string of base64 with padding",
                              where, name, base64);
}

static int batch_conditions(const json_t *item, const char *where, struct hadb_kv_op *out,
                            struct hadb_error *err)
{
    const json_t *absent = json_object_get(item, "if_absent");
    const json_t *version = json_object_get(item, "if_version");
    char text[64];
    if (absent && !json_is_boolean(absent)) {
        return hadb_fail(err, HADB_EINVAL, "%s: if_absent must be true or false", where);
    }
    out->if_absent = json_is_true(absent);
    if (out->if_absent && out->type != HADB_OP_PUT) {
        return hadb_fail(err, HADB_EINVAL, "%s: if_absent goes with put only", where);
    }
    if (out->if_absent && version) {
        return hadb_fail(err, HADB_EINVAL, "%s: if_absent and if_version exclude each other",
                         where);
    }
    if (version && !(json_is_string(version) &&
                     parse_version(json_string_value(version), json_string_length(version),
                                   &out->if_version))) {
        snprintf(text, sizeof text, "%s: if_version", where);
        return bad_version(text, err);
    }
    return 0;
}

static int batch_op(struct hadb_api_op *op, size_t i, json_t *item, struct hadb_error *err)
{
    static const char *const names[] = {"op",           "key",       "key_base64", "value",
                                        "value_base64", "if_absent", "if_version", NULL};
    struct hadb_buf *key = &op->op_bytes[2 * i], *value = &op->op_bytes[2 * i + 1];
    struct hadb_kv_op *out = &op->ops[i];
    char where[40];
    snprintf(where, sizeof where, "operation %zu", i);
    if (!json_is_object(item)) {
        return hadb_fail(err, HADB_EINVAL, "%s must be an object", where);
    }
    int r = hadb__api_json_members(item, names, where, err);
    if (r < 0) {
        return r;
    }
    const char *what = json_string_value(json_object_get(item, "op"));
    bool put = what && strcmp(what, "put") == 0;
    if (!put && !(what && strcmp(what, "delete") == 0)) {
        return hadb_fail(err, HADB_EINVAL, "%s: op must be put or delete", where);
    }
    for (size_t k = 3; !put && k <= 4; k++) {
        if (json_object_get(item, names[k])) {
            return hadb_fail(err, HADB_EINVAL, "%s: %s goes with put only", where, names[k]);
        }
    }
    out->type = put ? HADB_OP_PUT : HADB_OP_DELETE;
    r = batch_bytes(item, "key", where, key, err);
    if (r == 0 && put) {
        r = batch_bytes(item, "value", where, value, err);
    }
    out->key = hadb_buf_slice(key);
    out->value = hadb_buf_slice(value);
    return r < 0 ? r : batch_conditions(item, where, out, err);
}

/* Does the text have more objects, lists and members than any batch within its limits? Asked before it is parsed: two
 * bytes of it can be 250 of memory then. */
static bool batch_too_big(struct hadb_slice body)
{
    const char *p = body.data;
    size_t openings = 0, commas = 0;
    bool quoted = false;
    for (size_t i = 0; i < body.len; i++) {
        if (quoted && p[i] == '\\') {
            i++; /* what it escapes does not end the string */
        } else if (quoted) {
            quoted = p[i] != '"';
        } else {
            quoted = p[i] == '"';
            openings += p[i] == '{' || p[i] == '[';
            commas += p[i] == ',';
        }
    }
    return openings > HADB_BATCH_OPS_MAX + 2 ||
           commas > (size_t)HADB_BATCH_OPS_MAX * BATCH_MEMBERS_MAX;
}

static int fail_too_many(struct hadb_error *err)
{
    return hadb_fail(err, HADB_ETOOBIG, "a batch has at most %u operations", HADB_BATCH_OPS_MAX);
}

int hadb__api_batch_parse(struct hadb_api_op *op, struct hadb_slice body, struct hadb_error *err)
{
    static const char *const names[] = {"ops", NULL};
    int r = batch_too_big(body) ? fail_too_many(err)
                                : hadb__api_json_object(body, names, BATCH_FORM, &op->json, err);
    if (r < 0) {
        return r;
    }
    const json_t *list = json_object_get(op->json, "ops");
    size_t len = json_array_size(list);
    if (len == 0) {
        return hadb_fail(err, HADB_EINVAL, "ops must be an array of operations: %s", BATCH_FORM);
    }
    if (len > HADB_BATCH_OPS_MAX) {
        return fail_too_many(err);
    }
    op->ops = hadb_calloc(len, sizeof *op->ops);
    op->op_bytes = hadb_calloc(2 * len, sizeof *op->op_bytes);
    if (!op->ops || !op->op_bytes) {
        return hadb_fail_nomem(err);
    }
    op->op_bytes_len = 2 * len;
    for (size_t i = 0; r == 0 && i < len; i++) {
        r = batch_op(op, i, json_array_get(list, i), err);
    }
    op->req.request.ops = op->ops;
    op->req.request.ops_len = len;
    json_decref(op->json);
    op->json = NULL;
    return r;
}
