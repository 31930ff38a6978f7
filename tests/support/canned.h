/* SPDX-License-Identifier: Apache-2.0 */
/* A server on loopback that answers each request with the next of some prepared replies. One thread beside the test's. */
#ifndef HADB_TESTS_CANNED_H
#define HADB_TESTS_CANNED_H
#include "base/util.h"

struct canned {
    int listener;
    uint16_t port;
    struct canned_thread *thread;
    char *asked; /* all that came in, NUL-terminated; read it after canned_stop */
    size_t asked_len;
};

/*
 * Takes one connection after the other. Each request that arrives (in one piece) gets
 * the next reply of @replies, a NULL-terminated list; an empty reply closes the connection without one. After the
 * last it closes the connection and takes no other.
 */
void canned_start(struct canned *canned, const char *const *replies);
void canned_stop(
    struct canned
        *canned); /* waits until the client is gone or all was said; frees all but asked */
#endif
