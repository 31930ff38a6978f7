/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What GET /v1/status and GET /v1/metrics answer.
 *
 * Thread: the loop. Invariant: reading never touches storage, engine or lease store.
 */
#include "node/node_private.h"

#include <inttypes.h>
#include <jansson.h>

static json_t *database_json(struct hadb_db *db)
{
    struct hadb_db_info info;
    char uuid[HADB_ID_TEXT_BYTES], hash[2 * sizeof info.chain_hash.b + 1];
    hadb__db_info(db, &info);
    hadb_id_format(&info.uuid, uuid);
    hadb_hex_encode(info.chain_hash.b, sizeof info.chain_hash.b, hash);
    json_t *leader =
        info.leader[0] ? json_pack("{s:s,s:s}", "node", info.leader, "address", info.leader_address)
                       : json_null();
    json_t *object =
        json_pack("{s:s,s:s,s:s,s:o,s:I,s:I,s:I,s:I,s:s}", "name", info.name, "uuid", uuid, "role",
                  hadb_role_name(info.role), "leader", leader, "term", (json_int_t)info.term,
                  "txid", (json_int_t)info.txid, "durable_txid", (json_int_t)info.durable_txid,
                  "applied_txid", (json_int_t)info.applied_txid, "chain_hash", hash);
    if (object && info.reason[0]) {
        json_object_set_new(object, "reason", json_string(info.reason));
    }
    return object;
}

/* {"state":"ok"}, or "failing" with the error's name, its text and for how long. */
static json_t *store_json(struct hadb_node *node, const struct hadb_outage *outage)
{
    return outage->why.code == 0
               ? json_pack("{s:s}", "state", "ok")
               : json_pack("{s:s,s:s,s:s,s:I}", "state", "failing", "error",
                           hadb_code_name(outage->why.code), "message", outage->why.message,
                           "for_ms", (json_int_t)(hadb__now(node) - outage->since_ms));
}

static int by_name(const void *a, const void *b)
{
    const struct hadb_db *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

int hadb__status_json(struct hadb_node *node, struct hadb_buf *out)
{
    struct hadb_db **list = hadb_calloc(HADB_MAX(node->dbs_len, 1u), sizeof *list);
    json_t *databases = json_array();
    size_t len = 0;
    if (!list || !databases) {
        hadb_free(list);
        json_decref(databases);
        return HADB_ENOMEM;
    }
    for (struct hadb_db *db = node->dbs; db; db = db->next) {
        list[len++] = db;
    }
    qsort(list, len, sizeof *list, by_name);
    int r = 0;
    for (size_t i = 0; r == 0 && i < len; i++) {
        r = json_array_append_new(databases, database_json(list[i])) == 0 ? 0 : HADB_ENOMEM;
    }
    hadb_free(list);
    json_t *root = json_pack("{s:s,s:o,s:o,s:o}", "node", node->name, "databases", databases,
                             "storage", store_json(node, &node->outages.storage), "lease",
                             store_json(node, &node->outages.lease));
    if (root && !node->probe.may_lead) {
        json_object_set_new(root, "reason", json_string(node->probe.why.message));
    } else if (root && node->peers.namesake.code) {
        json_object_set_new(root, "reason", json_string(node->peers.namesake.message));
    }
    char *text = root && r == 0 ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) {
        return HADB_ENOMEM;
    }
    hadb_buf_clear(out);
    r = hadb_buf_append_str(out, text);
    free(text); /* foreign: json_dumps */
    return r;
}

static int storage_text(struct hadb_node *node, struct hadb_buf *out)
{
    struct hadb_storage_counters read;
    hadb_storage_counters_read(&node->storage_counters, &read);
    int r =
        hadb_buf_printf(out, "storage_requests %" PRIu64 "\n", hadb_storage_counters_total(&read));
    for (int op = 0; r == 0 && op < HADB_STORAGE_OP_LEN; op++) {
        const struct hadb_storage_op_counters *c = &read.op[op];
        r = hadb_buf_printf(out,
                            "storage_%s_done %" PRIu64 "\nstorage_%s_outcomes %" PRIu64
                            "\nstorage_%s_unknown %" PRIu64 "\nstorage_%s_failed %" PRIu64
                            "\nstorage_%s_bytes %" PRIu64 "\n",
                            hadb_storage_op_name((enum hadb_storage_op)op), c->done,
                            hadb_storage_op_name((enum hadb_storage_op)op), c->outcomes,
                            hadb_storage_op_name((enum hadb_storage_op)op), c->unknown,
                            hadb_storage_op_name((enum hadb_storage_op)op), c->failed,
                            hadb_storage_op_name((enum hadb_storage_op)op), c->bytes);
    }
    return r;
}

/* What the store was sent, and what that costs: nothing where the store sends nothing. */
static int usage_text(struct hadb_node *node, struct hadb_buf *out)
{
    struct hadb_storage_usage usage;
    hadb_storage_usage(&node->storage, &usage);
    return hadb_buf_printf(out,
                           "storage_sent_puts %" PRIu64 "\nstorage_sent_gets %" PRIu64
                           "\nstorage_sent_deletes %" PRIu64 "\nstorage_sent_bytes %" PRIu64
                           "\nstorage_received_bytes %" PRIu64 "\nstorage_cost_nusd %" PRIu64 "\n",
                           usage.puts, usage.gets, usage.deletes, usage.sent_bytes,
                           usage.received_bytes, hadb_storage_cost_nusd(&usage));
}

int hadb__metrics_text(struct hadb_node *node, struct hadb_buf *out)
{
    hadb_buf_clear(out);
    int r = 0;
#define HADB_X(name, text)                                                            \
    if (r == 0) {                                                                     \
        r = hadb_buf_printf(out, #name " %" PRIu64 "\n",                              \
                            __atomic_load_n(&node->counters.name, __ATOMIC_RELAXED)); \
    }
    HADB_NODE_COUNTERS(HADB_X)
#undef HADB_X
    if (r == 0) {
        r = hadb_buf_printf(out, "databases %zu\nrequests_under_way %zu\nstreams_out %zu\n",
                            node->dbs_len, node->requests_len, node->streams.out_len);
    }
    r = r < 0 ? r : storage_text(node, out);
    return r < 0 ? r : usage_text(node, out);
}
