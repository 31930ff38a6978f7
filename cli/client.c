/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client half of the program: one HTTP request at a time (libcurl), and what its answer means as an exit code.
 * Failure: no connection means surely not done; silence after sending means unknown, but for a read, which changes
 * nothing. What does not speak like a node is believed nothing about keys.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "cli/cli.h"

#define HEADER_LINE_BYTES (HADB_TOKEN_BYTES_MAX + 512)
#define REPLY_BYTES_MAX (512u << 20)
#define DEADLINE_GRACE_MS 500L /* the node answers by itself at the deadline: so long for the way */

int cli_client_open(struct cli_client *client, const struct cli_command *command, bool needs_db)
{
    int r = cli_client_complete(client, command, needs_db);
    if (r != 0) {
        return r;
    }
    curl_global_init(CURL_GLOBAL_DEFAULT);
    client->curl = curl_easy_init();
    return client->curl ? 0 : cli_fail(CLI_FAILED, "out of memory");
}

void cli_client_close(struct cli_client *client)
{
    if (client->curl != NULL) {
        curl_easy_cleanup(client->curl);
    }
    explicit_bzero(client->token, sizeof client->token);
    *client = (struct cli_client){0};
}

const char *cli_node_asked(const struct cli_client *client)
{
    return client->nodes[client->node_at];
}

static size_t take_body(char *data, size_t size, size_t len, void *arg)
{
    struct cli_reply *reply = arg;
    if (reply->body.len + size * len > REPLY_BYTES_MAX) {
        return 0;
    }
    return cli_append(&reply->body, data, size * len) ? size * len : 0;
}

static void take_value(const char *line, size_t len, const char *name, char *out, size_t cap)
{
    size_t name_len = strlen(name);
    if (len <= name_len || strncasecmp(line, name, name_len) != 0) {
        return;
    }
    line += name_len;
    len -= name_len;
    while (len > 0 && *line == ' ') {
        line++;
        len--;
    }
    while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n')) {
        len--;
    }
    snprintf(out, cap, "%.*s", (int)len, line);
}

static size_t take_header(char *data, size_t size, size_t len, void *arg)
{
    struct cli_reply *reply = arg;
    len *= size;
    take_value(data, len, "Hadb-Version:", reply->version, sizeof reply->version);
    take_value(data, len, "Hadb-Bookmark:", reply->bookmark, sizeof reply->bookmark);
    take_value(data, len, "Hadb-Request-Id:", reply->request_id, sizeof reply->request_id);
    return len;
}

static struct curl_slist *add_header(struct curl_slist *list, const char *name, const char *value)
{
    if (value == NULL) {
        return list;
    }
    char line[HEADER_LINE_BYTES];
    snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(list, line);
    return longer ? longer : list;
}

static struct curl_slist *headers_of(const struct cli_client *client)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    char text[CLI_TOKEN_BYTES + 8];
    if (client->token[0] != '\0') {
        snprintf(text, sizeof text, "Bearer %s", client->token);
        list = add_header(list, "Authorization", text);
        explicit_bzero(text, sizeof text);
    }
    list = add_header(list, "Content-Type", "application/octet-stream");
    list = add_header(list, "Hadb-Read", client->read);
    if (client->max_lag_ms != 0) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)client->max_lag_ms);
        list = add_header(list, "Hadb-Max-Lag-Ms", text);
    }
    list = add_header(list, "Hadb-Bookmark", client->bookmark);
    list = add_header(list, "Hadb-Ack", client->ack);
    list = add_header(list, "Hadb-Request-Id", client->request_id);
    if (client->deadline_ms != 0) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)client->deadline_ms);
        list = add_header(list, "Hadb-Deadline-Ms", text);
    }
    return list;
}

/* Asks one node. */
static bool request_one(struct cli_client *client, const char *method, const char *path,
                        const void *body, size_t body_len, struct cli_reply *reply)
{
    const char *node = cli_node_asked(client);
    char *url = malloc(strlen(node) + strlen(path) + 16);
    cli_reply_deinit(reply);
    reply->read = strcmp(method, "GET") == 0;
    if (url == NULL) {
        snprintf(reply->error, sizeof reply->error, "out of memory");
        return false;
    }
    sprintf(url, "http://%s%s", node, path);
    CURL *curl = client->curl;
    char detail[CURL_ERROR_SIZE] = "";
    long deadline_ms = client->deadline_ms ? (long)client->deadline_ms : HADB_DEADLINE_MS_DEFAULT;
    struct curl_slist *headers = headers_of(client);
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, deadline_ms);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, deadline_ms + DEADLINE_GRACE_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, reply);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, reply);
    if (body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_len);
    }
    CURLcode code = curl_easy_perform(curl);
    curl_slist_free_all(headers);
    free(url);
    if (code != CURLE_OK) {
        reply->maybe_done = code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST &&
                            code != CURLE_URL_MALFORMAT;
        snprintf(reply->error, sizeof reply->error, "%.100s: %.150s", node,
                 detail[0] ? detail : curl_easy_strerror(code));
        reply->status = 0;
        return false;
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply->status);
    return true;
}

bool cli_request(struct cli_client *client, const char *method, const char *path, const void *body,
                 size_t body_len, struct cli_reply *reply)
{
    for (size_t asked = 0; asked < client->nodes_len; asked++) {
        if (request_one(client, method, path, body, body_len, reply) || reply->maybe_done) {
            return reply->status != 0;
        }
        if (asked + 1 < client->nodes_len) { /* nothing was sent: the next one may do it */
            client->node_at = (client->node_at + 1) % client->nodes_len;
        }
    }
    return false;
}

void cli_reply_deinit(struct cli_reply *reply)
{
    cli_buf_free(&reply->body);
    *reply = (struct cli_reply){0};
}

/* A 404 counts as "absent" only from a node: a wrong port or a proxy says it of anything. */
static int exit_of(const struct cli_reply *reply, const char *error, const char *message)
{
    bool absent = error && message && (strcmp(error, "ABSENT") == 0 || strcmp(error, "ENODB") == 0);
    switch (reply->status) {
    case 200:
        return CLI_OK;
    case 400: /* refused as written */
    case 405:
    case 413:
    case 414:
    case 431:
        return CLI_USAGE;
    case 401:
        return CLI_AUTH;
    case 404:
        return absent ? CLI_ABSENT : CLI_FAILED;
    case 412:
        return CLI_NOT_MET;
    case 503:
        return CLI_UNAVAILABLE;
    case 504:
        return reply->read ? CLI_UNAVAILABLE : CLI_UNKNOWN;
    default:
        return CLI_FAILED;
    }
}

int cli_reply_failed(const struct cli_client *client, const struct cli_reply *reply)
{
    char text[CLI_MESSAGE_BYTES];
    const char *id = reply->request_id[0] ? reply->request_id : client->request_id;
    if (reply->status == 0) {
        bool unknown = reply->maybe_done && !reply->read;
        snprintf(text, sizeof text, "%s%s%s", reply->error,
                 client->nodes_len > 1 ? " (the last of several nodes)" : "",
                 unknown ? "; the outcome is unknown" : "; is a node running there?");
        return cli_fail_reply(unknown ? CLI_UNKNOWN : CLI_UNAVAILABLE, NULL, unknown ? id : NULL,
                              text);
    }
    json_t *body = json_loadb((const char *)reply->body.data, reply->body.len, 0, NULL);
    const char *message = json_string_value(json_object_get(body, "message"));
    const char *error = json_string_value(json_object_get(body, "error"));
    int r = exit_of(reply, error, message);
    snprintf(text, sizeof text, "%s (HTTP %ld)",
             message ? message : "the answer is not one of a node: check the address",
             reply->status);
    r = cli_fail_reply(r, error, r == CLI_UNKNOWN ? id : NULL, text);
    json_decref(body);
    return r;
}

char *cli_db_path(const struct cli_client *client, const char *what, const void *key,
                  size_t key_len, const char *query)
{
    char *db = curl_easy_escape(client->curl, client->database, 0);
    char *escaped = key ? curl_easy_escape(client->curl, key, (int)key_len) : NULL;
    char *path = NULL;
    if (db != NULL && (key == NULL || escaped != NULL)) {
        size_t cap = strlen(db) + strlen(what) + (escaped ? strlen(escaped) : 0) +
                     (query ? strlen(query) : 0) + 16;
        path = malloc(cap);
        if (path != NULL) {
            snprintf(path, cap, "/v1/db/%s/%s%s%s%s%s", db, what, key ? "/" : "",
                     escaped ? escaped : "", query && query[0] ? "?" : "", query ? query : "");
        }
    }
    curl_free(db);
    curl_free(escaped);
    return path;
}

bool cli_query_add(struct cli_client *client, char *buf, size_t cap, const char *name,
                   const char *value)
{
    char *escaped = curl_easy_escape(client->curl, value, 0);
    size_t len = strlen(buf);
    int added =
        escaped ? snprintf(buf + len, cap - len, "%s%s=%s", len ? "&" : "", name, escaped) : -1;
    curl_free(escaped);
    return added >= 0 && (size_t)added < cap - len;
}

void cli_request_id(char out[37])
{
    uint8_t b[16];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b) {
        abort(); /* the kernel promises it for so few bytes */
    }
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    for (int i = 0; i < 6; i++) {
        b[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    b[6] = (uint8_t)(0x70 | (b[6] & 0x0f));
    b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
    int at = 0;
    for (int i = 0; i < 16; i++) {
        at += sprintf(out + at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
    }
}
