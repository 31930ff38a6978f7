/* SPDX-License-Identifier: Apache-2.0 */
/* One shared connection to a NATS server: requests with a deadline, and messages that come by themselves. Any thread. */
#ifndef HADB_LEASE_NATS_WIRE_H
#define HADB_LEASE_NATS_WIRE_H
#include "base/place.h"

struct hadb__nats;
struct hadb__nats_sub;

struct hadb__nats_request {
    const char *subject;
    const char *header, *header_value; /* NULL = none */
    struct hadb_slice payload;
};

struct hadb__nats_reply {
    enum hadb__http_failure
        failure;  /* HADB__HTTP_FINE: @body is the answer, unless one of the flags is set */
    bool sent;    /* a server may have seen the request */
    bool refused; /* the server did not let us in, or not do it: @text says why */
    bool nobody;  /* a server says that nobody listens there: surely not done */
    char text[200];
    struct hadb_slice body; /* valid until deinit */
    void *message;
};

/* @place and @env outlive it. HADB_ENOMEM, HADB_EIO. */
int hadb__nats_open(const struct hadb__net_place *place, const struct hadb_env *env,
                    struct hadb__nats **out, struct hadb_error *err);
void hadb__nats_close(
    struct hadb__nats *nats); /* no call is running, no subscription is left; NULL is fine */
/* Sends one request and waits for its answer. @out is replaced. */
void hadb__nats_perform(struct hadb__nats *nats, const struct hadb_call *call,
                        const struct hadb__nats_request *request, struct hadb__nats_reply *out);
void hadb__nats_reply_deinit(struct hadb__nats_reply *reply);

/* Subscribes, and waits until the server knows. NULL: @why has a failure. */
struct hadb__nats_sub *hadb__nats_subscribe(struct hadb__nats *nats, const struct hadb_call *call,
                                            const char *subject, struct hadb__nats_reply *why);
/* Waits for a message, for at most @ms and to the end of the call; false when the connection is gone. */
bool hadb__nats_wait(struct hadb__nats_sub *sub, const struct hadb_call *call, uint64_t ms);
void hadb__nats_unsubscribe(struct hadb__nats_sub *sub); /* NULL is fine */
#endif
