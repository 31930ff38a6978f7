/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peer of the benchmark s3client: libcurl alone, CURLOPT_AWS_SIGV4, handles and connections kept, the same
 * conditions and the same kind of payload signature as our client. One request at a time through curl_easy_perform,
 * more through one multi handle on one thread.
 *
 * libcurl 7.88 takes the hash of the payload from a header of ours; GET has that of nothing. Small bodies go out with
 * the headers (POSTFIELDS), as ours do. A get is copied into memory that is kept, as a program that reads it would.
 */
#include <curl/curl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/s3_load.h"
#include "bench/stats.h"

#define SIGNED_BYTES_MAX ((size_t)1 << 20) /* over TLS, larger bodies go unsigned on both sides */

static const char *need(const char *variable)
{
    const char *value = getenv(variable);
    if (value == NULL || !*value) {
        bench_die("%s is not set: run it by scripts/bench.sh", variable);
    }
    return value;
}

static char *cut(const char *from, const char *to)
{
    size_t len = to ? (size_t)(to - from) : strlen(from);
    char *text = bench_alloc(len + 1);
    memcpy(text, from, len);
    return text;
}

/* s3://BUCKET/PREFIX?endpoint=ORIGIN&path_style=1[&ca=FILE] */
struct s3_place s3_place_read(void)
{
    const char *url = need("HADB_TEST_S3_URL");
    const char *bucket = strstr(url, "://"), *mark = strchr(url, '?');
    const char *endpoint = strstr(url, "endpoint="), *ca = strstr(url, "&ca=");
    const char *slash = bucket ? strchr(bucket + 3, '/') : NULL;
    if (slash == NULL || mark == NULL || endpoint == NULL) {
        bench_die("HADB_TEST_S3_URL is not s3://BUCKET/PREFIX?endpoint=…");
    }
    return (struct s3_place){.url = url,
                             .origin = cut(endpoint + 9, strchr(endpoint, '&')),
                             .bucket = cut(bucket + 3, slash),
                             .prefix = cut(slash + 1, mark),
                             .region = "us-east-1",
                             .key_id = need("AWS_ACCESS_KEY_ID"),
                             .secret = need("AWS_SECRET_ACCESS_KEY"),
                             .ca = ca ? cut(ca + 4, strchr(ca + 4, '&')) : NULL};
}

struct lane {
    CURL *easy;
    struct curl_slist *headers;
    uint8_t *got;
    size_t got_len, got_cap;
};

struct s3_plain {
    const struct s3_place *place;
    CURLM *multi;
    struct lane lanes[S3_IN_FLIGHT_MAX];
};

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct lane *lane = arg;
    size_t len = size * count;
    if (lane->got_len + len > lane->got_cap) {
        lane->got_cap = (lane->got_len + len) * 2;
        lane->got = realloc(lane->got, lane->got_cap);
        if (lane->got == NULL) {
            return 0;
        }
    }
    memcpy(lane->got + lane->got_len, data, len);
    lane->got_len += len;
    return len;
}

struct s3_plain *s3_plain_open(const struct s3_place *place)
{
    struct s3_plain *p = bench_alloc(sizeof *p);
    char user[512];
    char sigv4[128];
    snprintf(user, sizeof user, "%s:%s", place->key_id, place->secret);
    snprintf(sigv4, sizeof sigv4, "aws:amz:%s:s3", place->region);
    p->place = place;
    p->multi = curl_multi_init();
    for (size_t i = 0; i < S3_IN_FLIGHT_MAX; i++) {
        CURL *easy = p->lanes[i].easy = curl_easy_init();
        if (p->multi == NULL || easy == NULL) {
            bench_die("out of memory");
        }
        curl_easy_setopt(easy, CURLOPT_AWS_SIGV4, sigv4);
        curl_easy_setopt(easy, CURLOPT_USERPWD, user);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 131072L);
        curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 524288L);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, &p->lanes[i]);
        curl_easy_setopt(easy, CURLOPT_PRIVATE, &p->lanes[i]);
        if (place->ca != NULL) {
            curl_easy_setopt(easy, CURLOPT_CAINFO, place->ca);
        }
    }
    return p;
}

void s3_plain_close(struct s3_plain *p)
{
    for (size_t i = 0; i < S3_IN_FLIGHT_MAX; i++) {
        curl_easy_cleanup(p->lanes[i].easy);
        curl_slist_free_all(p->lanes[i].headers);
        free(p->lanes[i].got);
    }
    curl_multi_cleanup(p->multi);
    free(p);
}

static void set_hash(const struct s3_plain *p, const struct s3_load *load, struct lane *lane)
{
    static const char label[] = "x-amz-content-sha256: ";
    char line[128] = "x-amz-content-sha256: UNSIGNED-PAYLOAD";
    uint8_t hash[32];
    size_t len = load->put ? load->size : 0;
    if (p->place->ca == NULL || len <= SIGNED_BYTES_MAX) {
        if (EVP_Digest(load->bytes, len, hash, NULL, EVP_sha256(), NULL) != 1) {
            bench_die("out of memory");
        }
        for (size_t i = 0; i < sizeof hash; i++) {
            sprintf(line + sizeof label - 1 + 2 * i, "%02x", hash[i]);
        }
    }
    curl_slist_free_all(lane->headers);
    lane->headers = curl_slist_append(NULL, line);
    if (load->put) {
        lane->headers = curl_slist_append(lane->headers, "If-None-Match: *");
        lane->headers = curl_slist_append(lane->headers, "Content-Type: application/octet-stream");
    }
}

static void set_request(struct s3_plain *p, const struct s3_load *load, struct lane *lane,
                        unsigned number)
{
    char url[512];
    const struct s3_place *at = p->place;
    snprintf(url, sizeof url, "%s/%s/%s/%s-%u", at->origin, at->bucket, at->prefix, load->names,
             load->put ? number : number % S3_OBJECTS);
    set_hash(p, load, lane);
    if (load->put) {
        curl_easy_setopt(lane->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(lane->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)load->size);
        curl_easy_setopt(lane->easy, CURLOPT_POSTFIELDS, load->bytes);
        curl_easy_setopt(lane->easy, CURLOPT_CUSTOMREQUEST, "PUT");
    } else {
        curl_easy_setopt(lane->easy, CURLOPT_CUSTOMREQUEST, NULL);
        curl_easy_setopt(lane->easy, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(lane->easy, CURLOPT_HTTPHEADER, lane->headers);
    curl_easy_setopt(lane->easy, CURLOPT_URL, url);
    lane->got_len = 0;
}

static void check(const struct s3_load *load, struct lane *lane, CURLcode code)
{
    long status = 0;
    curl_easy_getinfo(lane->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK || status != 200 || (!load->put && lane->got_len != load->size)) {
        bench_die("plain %s: %s, status %ld: %.*s", load->put ? "put" : "get",
                  curl_easy_strerror(code), status,
                  (int)(lane->got_len > 300 ? 300 : lane->got_len),
                  lane->got ? (const char *)lane->got : "");
    }
}

static void run_one_by_one(struct s3_plain *p, const struct s3_load *load)
{
    struct lane *lane = &p->lanes[0];
    for (unsigned i = 0; i < load->count; i++) {
        set_request(p, load, lane, i);
        check(load, lane, curl_easy_perform(lane->easy));
    }
}

static void run_many(struct s3_plain *p, const struct s3_load *load)
{
    unsigned begun = 0, done = 0;
    int running = 0, left = 0;
    for (; begun < load->in_flight && begun < load->count; begun++) {
        set_request(p, load, &p->lanes[begun], begun);
        curl_multi_add_handle(p->multi, p->lanes[begun].easy);
    }
    while (done < load->count) {
        CURLMsg *message;
        if (curl_multi_perform(p->multi, &running) != CURLM_OK) {
            bench_die("libcurl fails");
        }
        while ((message = curl_multi_info_read(p->multi, &left)) != NULL) {
            struct lane *lane = NULL;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&lane);
            check(load, lane, message->data.result);
            curl_multi_remove_handle(p->multi, lane->easy);
            done++;
            if (begun < load->count) {
                set_request(p, load, lane, begun++);
                curl_multi_add_handle(p->multi, lane->easy);
                running = 1;
            }
        }
        if (done < load->count) {
            curl_multi_poll(p->multi, NULL, 0, 1000, NULL);
        }
    }
}

uint64_t s3_plain_run_ns(struct s3_plain *p, const struct s3_load *load)
{
    uint64_t start = bench_now_ns();
    if (load->in_flight == 1) {
        run_one_by_one(p, load);
    } else {
        run_many(p, load);
    }
    return bench_now_ns() - start;
}
