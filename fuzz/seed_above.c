/* SPDX-License-Identifier: Apache-2.0 */
/* First inputs for what travels between nodes, over HTTP, and in the text forms. One thread; aborts on failure. */
#include <stdio.h>

#include "fuzz/seed.h"
#include "hadb/kv.h"
#include "node/peers.h"
#include "node/req.h"
#include "node/stream.h"
#include "storage/probe.h"
#include "tests/unit/changeset/sample.h"

static void put_texts(const char *target, const char *const *texts)
{
    for (size_t i = 0; texts[i]; i++) {
        char name[32];
        snprintf(name, sizeof(name), "text-%zu", i);
        seed_put_text(target, name, texts[i]);
    }
}

static void seed_probe(void)
{
    struct hadb_probe_result result = {.at_unix_ms = 1700000000000, .took_ms = 12};
    struct hadb_buf text = {0};
    for (int failed = 0; failed <= 1; failed++) {
        for (size_t i = 0; i < HADB_PROBE_LEN; i++) {
            bool recorded = i == HADB_PROBE_SAME_BYTES || i == HADB_PROBE_DELETE;
            result.checks[i].status = recorded           ? HADB_PROBE_RECORDED
                                      : failed && i == 3 ? HADB_PROBE_FAILED
                                                         : HADB_PROBE_PASSED;
            snprintf(result.checks[i].text, sizeof(result.checks[i].text), "check %zu", i);
        }
        HADB_ASSERT(hadb_probe_encode(&result, &text) == 0);
        seed_put("probe", failed ? "failed" : "passed", hadb_buf_slice(&text));
        hadb_buf_clear(&text);
    }
    hadb_buf_deinit(&text);
}

static void seed_node_record(void)
{
    struct hadb_id given_up[2] = {sample_id(1), sample_id(2)};
    struct hadb_node_record record = {.state = HADB_HINT_LIVE,
                                      .ttl_ms = 2000,
                                      .owner = {sample_id(3), sample_id(4)},
                                      .counter = 9,
                                      .name = "node-1",
                                      .address = "127.0.0.1:4281"};
    struct hadb_buf bytes = {0};
    HADB_ASSERT(hadb_node_record_encode(&record, &bytes, NULL) == 0);
    seed_put("node_record", "live", hadb_buf_slice(&bytes));
    hadb_buf_clear(&bytes);
    record.state = HADB_HINT_FREE;
    record.given_up = given_up;
    record.given_up_len = 2;
    HADB_ASSERT(hadb_node_record_encode(&record, &bytes, NULL) == 0);
    seed_put("node_record", "free", hadb_buf_slice(&bytes));
    hadb_buf_deinit(&bytes);
}

static void seed_stream(void)
{
    const struct hadb_frame frames[] = {
        {.type = HADB_FRAME_HELLO, .owner = {sample_id(3), sample_id(4)}},
        {.type = HADB_FRAME_BEAT},
        {.type = HADB_FRAME_MARK, .db = sample_id(5), .term = 2, .slot = 41},
        {.type = HADB_FRAME_ENTRY, .db = sample_id(5), .entry = hadb_slice_str("stored bytes")},
        {.type = HADB_FRAME_POKE, .db = sample_id(5)},
        {.type = HADB_FRAME_FREE, .db = sample_id(5), .given_up = true},
    };
    struct hadb_buf all = {0};
    for (size_t i = 0; i < HADB_LEN(frames); i++) {
        uint8_t fixed[HADB_STREAM_FIXED_BYTES_MAX];
        char name[32];
        size_t start = all.len, len = hadb__frame_put(&frames[i], fixed);
        HADB_ASSERT(hadb_buf_append(&all, fixed, len) == 0);
        HADB_ASSERT(hadb_buf_append(&all, frames[i].entry.data, frames[i].entry.len) == 0);
        snprintf(name, sizeof(name), "frame-%zu", i);
        seed_put("stream", name, hadb_slice(all.data + start, all.len - start));
    }
    seed_put("stream", "all", hadb_buf_slice(&all));
    hadb_buf_deinit(&all);
}

static void seed_wire(void)
{
    const struct hadb_kv_op ops[] = {
        {.type = HADB_OP_PUT, .key = hadb_slice_str("a"), .value = hadb_slice_str("1")},
        {.type = HADB_OP_DELETE, .key = hadb_slice_str("b"), .if_version = {2, 7}},
        {.type = HADB_OP_PUT, .key = hadb_slice_str("c"), .if_absent = true},
    };
    struct hadb_req req = {.ack = HADB_ACK_DURABLE, .sent_term = 3};
    struct hadb_buf bytes = {0};
    req.request = (struct hadb_request){.type = HADB_REQUEST_PUT,
                                        .id = sample_id(0x70),
                                        .key = hadb_slice_str("key"),
                                        .value = hadb_slice_str("value"),
                                        .if_version = {1, 2}};
    HADB_ASSERT(hadb__wire_encode_request(&req, 500, &bytes, NULL) == 0);
    seed_put("wire", "put", hadb_buf_slice(&bytes));
    hadb_buf_clear(&bytes);
    req.own_id = true; /* not repeated */
    req.request.type = HADB_REQUEST_DELETE;
    req.request.value = (struct hadb_slice){0};
    HADB_ASSERT(hadb__wire_encode_request(&req, 500, &bytes, NULL) == 0);
    seed_put("wire", "delete", hadb_buf_slice(&bytes));
    hadb_buf_clear(&bytes);
    req.request =
        (struct hadb_request){.type = HADB_REQUEST_BATCH, .ops = ops, .ops_len = HADB_LEN(ops)};
    HADB_ASSERT(hadb__wire_encode_request(&req, 500, &bytes, NULL) == 0);
    seed_put("wire", "batch", hadb_buf_slice(&bytes));
    hadb_buf_clear(&bytes);
    req = (struct hadb_req){.response = {.version = {2, 8}}, .position = {2, 8}};
    HADB_ASSERT(hadb__wire_encode_answer(&req, &bytes, NULL) == 0);
    seed_put("wire", "done", hadb_buf_slice(&bytes));
    hadb_buf_clear(&bytes);
    req = (struct hadb_req){.r = HADB_EEXPIRED,
                            .response = {.usable_unix_ms = 1700000000000},
                            .err = {.message = "too old"}};
    HADB_ASSERT(hadb__wire_encode_answer(&req, &bytes, NULL) == 0);
    seed_put("wire", "refused", hadb_buf_slice(&bytes));
    hadb_buf_deinit(&bytes);
}

static void seed_snapshot_parts(void)
{
    struct hadb_buf payload = {0}, input = {0};
    sample_payload(HADB_ENTRY_SNAPSHOT, &payload);
    for (uint8_t how = 0; how < 16; how++) {
        char name[32];
        hadb_buf_clear(&input);
        uint8_t head[3] = {(uint8_t)payload.len, (uint8_t)(payload.len >> 8), how};
        HADB_ASSERT(hadb_buf_append(&input, head, sizeof(head)) == 0);
        HADB_ASSERT(hadb_buf_append(&input, payload.data, payload.len) == 0);
        snprintf(name, sizeof(name), "how-%u", how);
        seed_put("snapshot_parts", name, hadb_buf_slice(&input));
    }
    /* Two parts whose keys go on rising, then two whose keys do not. */
    static const uint8_t two[] = {
        26, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 'a', 'x',
        26, 0, 8, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 'b', 'y'};
    hadb_buf_clear(&input);
    HADB_ASSERT(hadb_buf_append(&input, two, sizeof(two)) == 0);
    seed_put("snapshot_parts", "two", hadb_buf_slice(&input));
    input.data[input.len - 2] = 'a';
    seed_put("snapshot_parts", "two-equal", hadb_buf_slice(&input));
    hadb_buf_deinit(&input);
    hadb_buf_deinit(&payload);
}

void seed_above(void)
{
    static const char *const targets[] = {"/v1/db/app/kv/a%2Fb?if_absent",
                                          "/v1/db/app/kv/k?if_version=3.14",
                                          "/v1/db/app/scan?prefix=a&start=%00&end=z&limit=10",
                                          "/v1/db/app/scan?limit=1&limit=2",
                                          "*",
                                          "/v1//x?if_absent=false&if_version=01.1",
                                          NULL};
    static const char *const batches[] = {
        "{\"ops\":[{\"op\":\"put\",\"key\":\"k\",\"value\":\"v\"}]}",
        "{\"ops\":[{\"op\":\"put\",\"key_base64\":\"/"
        "w==\",\"value_base64\":\"AAE=\",\"if_absent\":true},"
        "{\"op\":\"delete\",\"key\":\"\\u00e9\\u0000\",\"if_version\":\"3.14\"}]}",
        "{\"ops\":[{},{},{},[],1,null,\"x\",1e400]}",
        "{\"to\":\"node-2\"}",
        "{\"ops\":[[[[[[[[[[]]]]]]]]]]}",
        "{\"ops\":[],\"ops\":[]}",
        NULL};
    static const char *const texts[] = {"127.0.0.1:4280",
                                        "[::1]:80",
                                        "node-1.example:65535",
                                        "[::ffff:127.0.0.1]:0",
                                        "01890a5d-ac96-774b-bcce-b302099a8057",
                                        "18446744073709551615.1",
                                        "01890a5d-ac96-774b-bcce-b302099a8057.3.14",
                                        "65536",
                                        "s3://key:secret@host/bucket?token=abc&x=%41",
                                        "file:///a?b=1#Q@c",
                                        NULL};
    static const char *const configs[] = {"a = 1\n[node]\nb = x y ; note\nc = 1\nc = 2\n",
                                          "# only a comment\n\n[empty]\n",
                                          "[node\nb = 1\n",
                                          "x\n",
                                          "\xef\xbb\xbf[s]\r\nn: v\r\n  more\r\n",
                                          NULL};
    put_texts("query", targets);
    put_texts("batch", batches);
    put_texts("text", texts);
    put_texts("config", configs);
    seed_probe();
    seed_node_record();
    seed_stream();
    seed_wire();
    seed_snapshot_parts();
}
