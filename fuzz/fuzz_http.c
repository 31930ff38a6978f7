/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a blob service answers (docs/storage-http.md), and its URL (opening one sends nothing). The first byte chooses:
 * 'l' listing, 'd' Content-Digest, 'c' Content-Range, 's' the body of a refusal, 'u' URL.
 */
#include <stdio.h>

#include "base/buf.h"
#include "base/env.h"
#include "fuzz/input.h"
#include "storage/blob_wire.h"
#include "storage/key.h"

#define PAGE_MAX 3u

/* Whatever is read can be asked for further on, and nothing comes twice. */
static void try_listing(struct hadb_slice json)
{
    static const char *const from[][2] = {{"", ""}, {"a/", "a/b"}};
    for (size_t i = 0; i < HADB_LEN(from); i++) {
        struct hadb_object_list list = {0};
        struct hadb_error err = {0};
        const char *last = from[i][1];
        int r = hadb__blob_list(json, from[i][0], last, PAGE_MAX, &list, &err);
        HADB_ASSERT(r == 0 || (r == HADB_ECORRUPT && err.message[0]));
        HADB_ASSERT(list.len <= PAGE_MAX && (r == 0 || !list.truncated));
        HADB_ASSERT(r != 0 || list.len > 0 || !list.truncated);
        for (size_t k = 0; k < list.len; k++) {
            const char *key = list.items[k].key;
            HADB_ASSERT(hadb__object_key_check(key, NULL) == 0 && strcmp(key, last) > 0);
            HADB_ASSERT(strncmp(key, from[i][0], strlen(from[i][0])) == 0);
            HADB_ASSERT(list.items[k].size_bytes <= INT64_MAX);
            last = key;
        }
        hadb_object_list_deinit(&list);
    }
}

/* A header as base/http.c hands it on: printable, and bounded. False when it is not. */
static bool header_of(struct hadb_slice bytes, char *out, size_t size)
{
    const char *text = bytes.data;
    if (bytes.len >= size) {
        return false;
    }
    for (size_t i = 0; i < bytes.len; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e) {
            return false;
        }
        out[i] = text[i];
    }
    out[bytes.len] = '\0';
    return true;
}

static void try_digest(struct hadb_slice bytes)
{
    char header[HADB_HTTP_DIGEST_BYTES], more[HADB_HTTP_DIGEST_BYTES + HADB_BLOB_DIGEST_BYTES + 2];
    char ours[HADB_BLOB_DIGEST_BYTES];
    struct hadb_slice body = hadb_slice_str("body");
    if (!header_of(bytes, header, sizeof(header))) {
        return;
    }
    bool fits = hadb__blob_digest_fits(header, body);
    HADB_ASSERT(fits || strstr(header, "sha-256="));
    hadb__blob_digest(body, ours);
    snprintf(more, sizeof(more), "%s, %s", header, ours);
    HADB_ASSERT(hadb__blob_digest_fits(more, body)); /* the last one counts */
}

static void try_range(struct hadb_slice bytes)
{
    static struct hadb__http_reply reply; /* large */
    const struct hadb_storage_io io = {.type = HADB_IO_GET_RANGE, .offset = 3, .len = 4};
    struct hadb_slice part = {0};
    uint8_t body[4] = "3456";
    reply.status = 206;
    reply.body = (struct hadb_buf){.data = body, .len = bytes.len % 5, .cap = sizeof(body)};
    if (header_of(bytes, reply.content_range, sizeof(reply.content_range)) &&
        hadb__http_range_of(&io, &reply, &part, NULL) == 0) {
        HADB_ASSERT(part.len == reply.body.len && part.len > 0 && part.len <= io.len);
        HADB_ASSERT(strncmp(reply.content_range, "bytes ", 6) == 0);
    }
}

static void try_refusal(struct hadb_slice bytes)
{
    static struct hadb__http_reply reply; /* large */
    struct hadb__rest_said said;
    reply.status = 404;
    reply.error_len = HADB_MIN(bytes.len, sizeof(reply.error_body));
    memcpy(reply.error_body, bytes.data, reply.error_len);
    hadb__rest_said(&reply, &said);
    HADB_ASSERT(memchr(said.name, '\0', sizeof(said.name)));
    HADB_ASSERT(memchr(said.text, '\0', sizeof(said.text)));
    HADB_ASSERT(hadb__rest_says_absent(&reply) == (strcmp(said.name, "ABSENT") == 0));
}

static void try_url(struct hadb_slice rest)
{
    char url[512];
    struct hadb_storage storage = {0};
    struct hadb_error err = {0};
    struct hadb_env env = *hadb_env_host();
    env.log_level = HADB_LOG_ERROR;
    int len = snprintf(url, sizeof url, "https://%.*s", (int)HADB_MIN(rest.len, (size_t)400),
                       (const char *)rest.data);
    HADB_ASSERT(len > 0 && (size_t)len < sizeof url);
    if (strstr(url, "password")) {
        return; /* it may name any file, and one of a device never ends */
    }
    int r = hadb_storage_open(url, &env, &storage, &err);
    HADB_ASSERT(r == 0 ? storage.ops != NULL : r == HADB_EINVAL && err.message[0] != '\0');
    hadb_storage_close(&storage);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2) {
        return 0;
    }
    struct hadb_slice rest = hadb_slice(data + 1, len - 1);
    switch (data[0]) {
    case 'l':
        try_listing(rest);
        break;
    case 'd':
        try_digest(rest);
        break;
    case 'c':
        try_range(rest);
        break;
    case 's':
        try_refusal(rest);
        break;
    case 'u':
        try_url(rest);
        break;
    default:
        break;
    }
    return 0;
}
