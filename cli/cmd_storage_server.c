/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadb storage-server: the REST service of docs/storage-http.md over any storage (cli/rest_server.h is its frame).
 *
 * Thread: one per connection.
 * Invariants: nothing is kept here: what is answered 2xx is as durable as the store behind it says. A write is one
 * call of the store, and an outcome that the store does not know is a 5xx: its client calls it unknown. A body that does
 * not fit its digest is not written.
 * Happy path: one call of the store, one answer.
 * Failure modes: every refusal is one of the table in docs/storage-http.md.
 */
#include <openssl/evp.h>
#include <string.h>

#include "cli/rest_server.h"

#define CONNECTION_BYTES ((size_t)256 << 10)
#define DELETE_LEN_MAX 1000u
#define DELETE_BYTES_MAX ((size_t)2 << 20)
#define DIGEST_BYTES 56u /* "sha-256=:", 44 of base64, ":" and a NUL */

static struct hadb_storage storage; /* const while it serves */

static int open_storage(const char *url, struct hadb_error *err)
{
    int r = hadb_storage_open(url, NULL, &storage, err);
    if (r == 0 && !(hadb_storage_caps(&storage) & HADB_STORAGE_CAP_DURABLE)) {
        cli_warn("what is stored here ends with this server: for tests only");
    }
    return r;
}

static void close_storage(void)
{
    hadb_storage_close(&storage);
}

/* --- digests ------------------------------------------------------------------------------------ */

static bool digest_of(const struct hadb_buf *body, char out[DIGEST_BYTES])
{
    unsigned char hash[32], text[48];
    size_t len = 0;
    if (EVP_Q_digest(NULL, "SHA256", NULL, body->len ? body->data : (const void *)"", body->len,
                     hash, &len) != 1) {
        return false;
    }
    EVP_EncodeBlock(text, hash, (int)sizeof hash);
    snprintf(out, DIGEST_BYTES, "sha-256=:%.44s:", (const char *)text);
    return true;
}

/* False when the request has a SHA-256 of its body, and it is another one. */
static bool digest_fits(const struct rest_exchange *x)
{
    const char *at = rest_header(x, "Content-Digest");
    char ours[DIGEST_BYTES];
    bool fits = true;
    while (at != NULL &&
           *at != '\0') { /* members of a dictionary; of two with one name the last counts */
        at += strspn(at, " \t,");
        size_t len = strcspn(at, ","), value = strcspn(at, ";, \t");
        if (strncmp(at, "sha-256=", 8) == 0) {
            fits =
                digest_of(&x->body, ours) && value == strlen(ours) && memcmp(at, ours, value) == 0;
        }
        at += len;
    }
    return fits;
}

/* --- reading ------------------------------------------------------------------------------------ */

static enum MHD_Result refuse_busy(struct rest_exchange *x)
{
    return rest_refuse(x, MHD_HTTP_SERVICE_UNAVAILABLE, "EBUSY",
                       "the server's memory for bodies is used up");
}

static enum MHD_Result refuse_tag(struct rest_exchange *x)
{
    return rest_refuse(x, MHD_HTTP_BAD_GATEWAY, "EIO", "a tag of the store is too long");
}

/* @tag, @content_range: NULL = none. */
static enum MHD_Result send_bytes(struct rest_exchange *x, unsigned status,
                                  struct hadb_buf *take_bytes, const struct hadb_tag *tag,
                                  const char *content_range)
{
    char etag[HADB_TAG_MAX + 1], digest[DIGEST_BYTES];
    bool digested = digest_of(take_bytes, digest);
    if (tag != NULL && !rest_etag_write(tag, etag)) {
        hadb_buf_deinit(take_bytes);
        return refuse_tag(x);
    }
    struct MHD_Response *response = rest_response(x, take_bytes);
    if (response == NULL) {
        return refuse_busy(x);
    }
    MHD_add_response_header(response, "Content-Type", "application/octet-stream");
    if (tag != NULL) {
        MHD_add_response_header(response, "ETag", etag);
    }
    if (digested) {
        MHD_add_response_header(response, "Content-Digest", digest);
    }
    if (content_range != NULL) {
        MHD_add_response_header(response, "Content-Range", content_range);
    }
    return rest_send(x, status, response);
}

static enum MHD_Result refuse_read(struct rest_exchange *x, int r, const struct hadb_error *err)
{
    return r == HADB_ABSENT
               ? rest_refuse(x, MHD_HTTP_NOT_FOUND, "ABSENT", "there is no such object")
               : rest_refuse_error(x, err);
}

/* "bytes=FIRST-LAST"; any other form is ignored, as HTTP allows. */
static bool read_range(const char *text, uint64_t *first, size_t *len)
{
    unsigned long long a = 0, b = 0;
    int end = -1;
    if (text == NULL || strspn(text, "bytes=0123456789-") != strlen(text) ||
        sscanf(text, "bytes=%18llu-%18llu%n", &a, &b, &end) != 2 || text[end] != '\0' || b < a) {
        return false;
    }
    *first = a;
    *len = b - a < HADB_OBJECT_BYTES_MAX ? (size_t)(b - a + 1) : HADB_OBJECT_BYTES_MAX;
    return true;
}

static enum MHD_Result get_range(struct rest_exchange *x, const char *key, uint64_t first,
                                 size_t len)
{
    struct hadb_error err = {0};
    struct hadb_buf bytes = {0};
    char content_range[80];
    int r = hadb_storage_get_range(&storage, &x->call, key, first, len, &bytes, &err);
    if (r != 0) {
        return refuse_read(x, r, &err);
    }
    if (bytes.len == 0) {
        hadb_buf_deinit(&bytes);
        return rest_refuse(x, MHD_HTTP_RANGE_NOT_SATISFIABLE, "RANGE",
                           "the object ends before that");
    }
    snprintf(content_range, sizeof content_range, "bytes %llu-%llu/*", (unsigned long long)first,
             (unsigned long long)(first + bytes.len - 1));
    return send_bytes(x, MHD_HTTP_PARTIAL_CONTENT, &bytes, NULL, content_range);
}

static enum MHD_Result get(struct rest_exchange *x, const char *key)
{
    struct hadb_error err = {0};
    struct hadb_buf bytes = {0};
    struct hadb_tag tag = {0};
    uint64_t first = 0;
    size_t len = 0;
    if (read_range(rest_header(x, "Range"), &first, &len)) {
        return get_range(x, key, first, len);
    }
    int r = hadb_storage_get(&storage, &x->call, key, &bytes, &tag, &err);
    return r != 0 ? refuse_read(x, r, &err) : send_bytes(x, MHD_HTTP_OK, &bytes, &tag, NULL);
}

/* Of an answer to HEAD nothing is read. */
static ssize_t no_bytes(void *arg, uint64_t at, char *out, size_t len)
{
    (void)arg, (void)at, (void)out, (void)len;
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

static enum MHD_Result head(struct rest_exchange *x, const char *key)
{
    struct hadb_error err = {0};
    struct hadb_object_meta meta = {0};
    char etag[HADB_TAG_MAX + 1];
    int r = hadb_storage_head(&storage, &x->call, key, &meta, &err);
    if (r != 0) {
        return refuse_read(x, r, &err);
    }
    if (!rest_etag_write(&meta.tag, etag)) {
        return refuse_tag(x);
    }
    struct MHD_Response *response =
        MHD_create_response_from_callback(meta.size_bytes, 1024, no_bytes, NULL, NULL);
    if (response != NULL) {
        MHD_add_response_header(response, "Content-Type", "application/octet-stream");
        MHD_add_response_header(response, "ETag", etag);
    }
    return rest_send(x, MHD_HTTP_OK, response);
}

/* --- writing ------------------------------------------------------------------------------------ */

static enum MHD_Result send_empty(struct rest_exchange *x, unsigned status, const char *etag)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
    if (response != NULL && etag != NULL) {
        MHD_add_response_header(response, "ETag", etag);
    }
    return rest_send(x, status, response);
}

static enum MHD_Result put(struct rest_exchange *x, const char *key)
{
    struct hadb_error err = {0};
    struct hadb_tag expected, tag = {0};
    char etag[HADB_TAG_MAX + 1];
    bool creates = false;
    enum MHD_Result refused = MHD_NO;
    if (!rest_condition(x, &creates, &expected, &refused)) {
        return refused;
    }
    if (!digest_fits(x)) {
        return rest_refuse(x, MHD_HTTP_BAD_REQUEST, "BAD_DIGEST",
                           "the body does not fit its Content-Digest");
    }
    struct hadb_slice body = {.data = x->body.data, .len = x->body.len};
    int r = creates ? hadb_storage_create(&storage, &x->call, key, body, &tag, &err)
                    : hadb_storage_replace(&storage, &x->call, key, body, &expected, &tag, &err);
    if (r == HADB_EXISTS) {
        return rest_refuse(x, MHD_HTTP_PRECONDITION_FAILED, "EXISTS",
                           "the object is there already");
    }
    if (r == HADB_CAS_LOST) {
        return rest_refuse(x, MHD_HTTP_PRECONDITION_FAILED, "LOST",
                           "the object is another one by now");
    }
    if (r != 0) {
        return rest_refuse_error(x, &err);
    }
    /* It is written: without a tag to tell, that is a failure which says so. */
    return rest_etag_write(&tag, etag)
               ? send_empty(x, creates ? MHD_HTTP_CREATED : MHD_HTTP_OK, etag)
               : refuse_tag(x);
}

/* --- many objects ------------------------------------------------------------------------------- */

static json_t *page_json(const struct hadb_object_list *page)
{
    json_t *objects = json_array();
    for (size_t i = 0; objects != NULL && i < page->len; i++) {
        if (json_array_append_new(objects,
                                  json_pack("{s:s, s:I}", "key", page->items[i].key, "size",
                                            (json_int_t)page->items[i].size_bytes)) != 0) {
            json_decref(objects);
            return NULL; /* a page must not lack one in the middle */
        }
    }
    return objects ? json_pack("{s:o, s:b}", "objects", objects, "truncated", (int)page->truncated)
                   : NULL;
}

static enum MHD_Result list(struct rest_exchange *x)
{
    const char *prefix = rest_argument(x, "prefix"), *after = rest_argument(x, "after");
    struct hadb_error err = {0};
    struct hadb_object_list page = {0};
    uint64_t max = 0;
    if (!rest_number(rest_argument(x, "max"), HADB_LIST_LEN_MAX, HADB_LIST_LEN_MAX, &max)) {
        return rest_refuse(x, MHD_HTTP_BAD_REQUEST, "EINVAL", "max is 1 to 1000");
    }
    int r = hadb_storage_list(&storage, &x->call, prefix ? prefix : "", after ? after : "",
                              (size_t)max, &page, &err);
    if (r != 0) {
        return rest_refuse_error(x, &err);
    }
    json_t *root = page_json(&page);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    hadb_object_list_deinit(&page);
    struct MHD_Response *response =
        text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (response == NULL) {
        free(text);
        return refuse_busy(x);
    }
    MHD_add_response_header(response, "Content-Type", "application/json");
    return rest_send(x, MHD_HTTP_OK, response);
}

/* The keys of {"delete":[KEY,…]}, borrowed from @root. False when it is anything else. */
static bool read_keys(const json_t *root, const char *keys[DELETE_LEN_MAX], size_t *len)
{
    const json_t *names = json_object_get(root, "delete");
    if (!json_is_array(names) || json_object_size(root) != 1 ||
        json_array_size(names) > DELETE_LEN_MAX) {
        return false;
    }
    *len = json_array_size(names);
    for (size_t i = 0; i < *len; i++) {
        keys[i] = json_string_value(json_array_get(names, i));
        if (keys[i] == NULL) {
            return false;
        }
    }
    return true;
}

static enum MHD_Result delete(struct rest_exchange *x) {
    const char *keys[DELETE_LEN_MAX]; struct hadb_error err = {0}; size_t len = 0;
    if (x->body.len >
        DELETE_BYTES_MAX){return rest_refuse(x, MHD_HTTP_CONTENT_TOO_LARGE, "ETOOBIG",
                                             "a list of keys has 2097152 bytes at most");}
if (!digest_fits(x))
{
    return rest_refuse(x, MHD_HTTP_BAD_REQUEST, "BAD_DIGEST",
                       "the body does not fit its Content-Digest");
}
json_t *root = json_loadb(x->body.len ? (const char *)x->body.data : "", x->body.len,
                          JSON_REJECT_DUPLICATES, NULL);
bool readable = read_keys(root, keys, &len);
int r = readable ? hadb_storage_delete_many(&storage, &x->call, keys, len, &err) : 0;
json_decref(root);
if (!readable) {
    return rest_refuse(x, MHD_HTTP_BAD_REQUEST, "EINVAL",
                       "write {\"delete\":[KEY,…]} with 1000 keys at most");
}
return r != 0 ? rest_refuse_error(x, &err) : send_empty(x, MHD_HTTP_NO_CONTENT, NULL);
}

/* --- the command -------------------------------------------------------------------------------- */

static enum MHD_Result answer(struct rest_exchange *x)
{
    bool gets = strcmp(x->method, "GET") == 0;
    if (x->tail[0] == '\0') {
        return gets                             ? list(x)
               : strcmp(x->method, "POST") == 0 ? delete (x)
                                                : rest_refuse_method(x, "GET, POST");
    }
    const char *key = x->tail + 1;
    return gets                            ? get(x, key)
           : rest_reads(x)                 ? head(x, key)
           : strcmp(x->method, "PUT") == 0 ? put(x, key)
                                           : rest_refuse_method(x, "GET, HEAD, PUT");
}

static int run_storage_server(int argc, char **argv)
{
    static const struct rest_service service = {
        .command = &cli_storage_server,
        .store_option = "store",
        .listen_default = "127.0.0.1:4291",
        .base = "/v1/storage",
        .not_found = "objects are at /v1/storage/KEY",
        .too_big = "an object has 67108864 bytes at most",
        .body_bytes_max = HADB_OBJECT_BYTES_MAX,
        .connection_bytes = CONNECTION_BYTES,
        .open = open_storage,
        .close = close_storage,
        .answer = answer,
    };
    return rest_server_run(&service, argc, argv);
}

const struct cli_command cli_storage_server = {
    .name = "storage-server",
    .usage = "--store URL [--listen ADDR:PORT] [options]",
    .summary = "serve a storage to nodes over HTTP",
    .help =
        "Nodes then take --store http://ADDR:PORT (docs/storage-http.md). Prints 'ready ADDR:PORT "
        "pid N'\nonce it answers; SIGTERM ends it, when what runs is done.\n\n"
        "  --store URL         the storage behind it: file:///dir, s3://… and so on; mem: forgets\n"
        "                      everything when the server ends\n"
        "  --listen ADDR:PORT  default 127.0.0.1:4291; port 0 picks one\n" REST_SERVER_HELP,
    .run = run_storage_server,
};
