/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loss check: every key of every node against the writers' history.
 *
 * Each node is read with linearizable scans, page after page. A write counts as lost when any node lacks it or holds
 * another value, and as doubled when any node holds another version than the one that was acknowledged (an insert that ran
 * twice has the later one) or a retry found its own key (seen by the writer).
 * Thread: main, writers stopped. Failure: a page that cannot be had ends the program.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/writers.h"
#include "hadb/kv.h"

#define PAGE_LEN 5000
#define PAGE_MS 30000u

struct seen {
    uint8_t *present[BENCH_WRITERS_MAX]; /* bit 1: on this node; bit 2: lost; bit 4: doubled */
    uint64_t foreign;
};

static void take_item(struct bench_writers *writers, struct seen *seen, const json_t *item)
{
    const char *key = json_string_value(json_object_get(item, "key"));
    const char *value = json_string_value(json_object_get(item, "value"));
    const char *text = json_string_value(json_object_get(item, "version"));
    unsigned writer = 0, value_writer = 0;
    size_t number = 0, value_number = 0;
    struct hadb_version version = {0};
    if (key == NULL || sscanf(key, "w%2u-%9zu", &writer, &number) != 2 || writer >= writers->len ||
        number >= writers->list[writer].records_len) {
        seen->foreign++;
        return;
    }
    const struct bench_record *record = &writers->list[writer].records[number];
    uint8_t *mark = &seen->present[writer][number];
    *mark |= 1;
    if (value == NULL || sscanf(value, "%u/%zu/", &value_writer, &value_number) != 2 ||
        value_writer != writer || value_number != number) {
        *mark |= 2;
    }
    if (record->outcome == BENCH_ACKED &&
        (text == NULL || !hadb_version_parse(text, &version) || version.term != record->term ||
         version.txid != record->txid)) {
        *mark |= 4;
    }
}

static void read_node(struct bench_writers *writers, unsigned index, struct seen *seen)
{
    struct bench_cluster *cluster = writers->cluster;
    struct bench_http *http = &cluster->nodes[index].http;
    char start[40] = "w";
    for (;;) {
        char path[160];
        struct bench_reply reply;
        snprintf(path, sizeof path, "/v1/db/" BENCH_DB "/scan?prefix=w&start=%s&limit=%d", start,
                 PAGE_LEN);
        int status = bench_http_request(http, "GET", path, "Hadb-Read: linearizable\r\n", NULL, 0,
                                        bench_now_ns() + PAGE_MS * 1000000ull, &reply);
        json_t *page =
            status == 200 ? json_loadb(reply.body, reply.body_len, JSON_ALLOW_NUL, NULL) : NULL;
        json_t *items = json_object_get(page, "items");
        if (!json_is_array(items)) {
            bench_cluster_fail(cluster, "scan of %s: %d %.200s", cluster->nodes[index].name, status,
                               status > 0 && reply.body ? reply.body : "");
        }
        size_t i;
        json_t *item;
        json_array_foreach(items, i, item)
        {
            take_item(writers, seen, item);
            const char *key = json_string_value(json_object_get(item, "key"));
            snprintf(start, sizeof start, "%.32s%%00", key ? key : "");
        }
        bool more = i == PAGE_LEN;
        json_decref(page);
        if (!more) {
            return;
        }
    }
}

static void judge_node(struct bench_writers *writers, struct seen *seen)
{
    for (unsigned w = 0; w < writers->len; w++) {
        const struct bench_writer *writer = &writers->list[w];
        for (size_t n = 0; n < writer->records_len; n++) {
            uint8_t *mark = &seen->present[w][n];
            if (writer->records[n].outcome == BENCH_ACKED && !(*mark & 1)) {
                *mark |= 2;
            }
            *mark &= (uint8_t)~1;
        }
    }
}

void bench_writers_spoil(struct bench_writers *writers)
{
    struct bench_cluster *cluster = writers->cluster;
    static const char *const methods[] = {"DELETE", "PUT"};
    unsigned done = 0;
    for (size_t n = 0; n < writers->list[0].records_len && done < 2; n++) {
        char path[96], value[64];
        struct bench_reply reply;
        if (writers->list[0].records[n].outcome != BENCH_ACKED) {
            continue;
        }
        snprintf(path, sizeof path, "/v1/db/" BENCH_DB "/kv/w00-%09zu", n);
        snprintf(value, sizeof value, "0/%zu/", n);
        int status = bench_http_request(&cluster->nodes[0].http, methods[done], path, NULL, value,
                                        done == 1 ? strlen(value) : 0,
                                        bench_now_ns() + PAGE_MS * 1000000ull, &reply);
        if (status != 200) {
            bench_cluster_fail(cluster, "%s %s: %d", methods[done], path, status);
        }
        done++;
    }
}

void bench_writers_check(struct bench_writers *writers, struct bench_verdict *out)
{
    struct seen seen = {0};
    for (unsigned w = 0; w < writers->len; w++) {
        seen.present[w] = bench_alloc(writers->list[w].records_len);
    }
    for (unsigned i = 0; i < writers->cluster->len; i++) {
        read_node(writers, i, &seen);
        judge_node(writers, &seen);
    }
    *out = (struct bench_verdict){.doubled = writers->twice, .foreign = seen.foreign};
    for (unsigned w = 0; w < writers->len; w++) {
        for (size_t n = 0; n < writers->list[w].records_len; n++) {
            out->lost += (seen.present[w][n] & 2) != 0;
            out->doubled += (seen.present[w][n] & 4) != 0;
        }
        free(seen.present[w]);
    }
}
