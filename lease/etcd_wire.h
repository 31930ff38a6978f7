/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the members of an etcd cluster through their JSON gateway: which member, with which token. Any thread. */
#ifndef HADB_LEASE_ETCD_WIRE_H
#define HADB_LEASE_ETCD_WIRE_H
#include <jansson.h>

#include "base/place.h"

#define HADB_ETCD_REPLY_BYTES_MAX 262144u

struct hadb__etcd;

struct hadb__etcd_request {
    const char *path; /* "/v3/kv/range" */
    struct hadb_slice body;
    bool writes;
    bool (*enough)(void *arg, struct hadb_slice body); /* as in base/http.h */
    void *enough_arg;
};

/* @place and @env outlive it. HADB_ENOMEM, HADB_EIO. */
int hadb__etcd_open(const struct hadb__net_place *place, const struct hadb_env *env,
                    struct hadb__etcd **out, struct hadb_error *err);
void hadb__etcd_close(struct hadb__etcd *etcd); /* no request is running; NULL is fine */
/*
 * Performs it at one member, and at the next ones while it surely was not seen. 0 with @reply a 200; else a failure
 * by the outcome rule. @reply is replaced.
 */
int hadb__etcd_perform(struct hadb__etcd *etcd, const struct hadb_call *call,
                       const struct hadb__etcd_request *request, struct hadb__http_reply *reply,
                       struct hadb_error *err);
#endif
