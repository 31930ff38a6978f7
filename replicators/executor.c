/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 2 of 8: dispatch over struct hadb_executor and the factory of executors.
 *
 * This is the only file that calls ops->x. Thread: those of the method. Invariants: every response says
 * what the call says. Failure modes: those of the method.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "replicators/kv_private.h"

static bool is_open(const struct hadb_executor *executor)
{
    return executor && executor->ops;
}

static const struct hadb_executor_ops *const executors[] = {&hadb__kv_executor_ops};

int hadb_executor_open(const char *name, const struct hadb_engine *engine,
                       struct hadb_executor *out, struct hadb_error *err)
{
    if (!name || !engine || !engine->ops || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    for (size_t i = 0; i < HADB_LEN(executors); i++) {
        if (strcmp(executors[i]->name, name) != 0) {
            continue;
        }
        void *self = NULL;
        int r = executors[i]->open(engine, &self, err);
        HADB_ASSERT(r <= 0);
        if (r == 0) {
            *out = (struct hadb_executor){.ops = executors[i], .self = self};
        }
        return r;
    }
    return hadb_fail(err, HADB_ENOTSUP, "unknown executor \"%.64s\"; this build has kv", name);
}

void hadb_executor_close(struct hadb_executor *executor)
{
    if (!executor) {
        return;
    }
    if (executor->ops) {
        executor->ops->close(executor->self);
    }
    *executor = (struct hadb_executor){0};
}

bool hadb_executor_is_mutation(const struct hadb_executor *executor,
                               const struct hadb_request *request)
{
    return is_open(executor) && request && executor->ops->is_mutation(executor->self, request);
}

int hadb_executor_execute(const struct hadb_executor *executor,
                          const struct hadb_execute_context *context,
                          const struct hadb_request *request, struct hadb_response *response,
                          struct hadb_error *err)
{
    if (!is_open(executor) || !request || !response) {
        return hadb_fail_misuse(err, __func__);
    }
    *response = (struct hadb_response){0};
    if (hadb_executor_is_mutation(executor, request)) {
        if (!context) {
            response->code = hadb_fail_misuse(&response->error, __func__);
            return hadb_fail_misuse(err, __func__);
        }
        int r = executor->ops->execute_many(executor->self, context, &request, 1, response, err);
        HADB_ASSERT(r <= 0 && (r == 0 || response->code == r));
    } else {
        int r = executor->ops->read(executor->self, request, response, &response->error);
        HADB_ASSERT(r <= 0 || r == HADB_ABSENT);
        response->code = r;
    }
    if (response->code < 0 && err) {
        *err = response->error;
    }
    return response->code;
}

int hadb_executor_execute_many(const struct hadb_executor *executor,
                               const struct hadb_execute_context *context,
                               const struct hadb_request *const *requests, size_t len,
                               struct hadb_response *responses, struct hadb_error *err)
{
    if (!is_open(executor) || !context || (len > 0 && (!requests || !responses))) {
        return hadb_fail_misuse(err, __func__);
    }
    if (len > HADB_GROUP_LEN_MAX) {
        return hadb_fail(err, HADB_EINVAL, "%zu requests in a group: at most %u are allowed", len,
                         HADB_GROUP_LEN_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        responses[i] = (struct hadb_response){0};
    }
    int r = executor->ops->execute_many(executor->self, context, requests, len, responses, err);
    HADB_ASSERT(r <= 0);
    return r;
}

void hadb_response_deinit(struct hadb_response *response)
{
    if (!response) {
        return;
    }
    hadb_buf_deinit(&response->value);
    hadb_free(response->items.items);
    hadb_buf_deinit(&response->items.memory);
    hadb_buf_deinit(&response->next);
    *response = (struct hadb_response){0};
}
