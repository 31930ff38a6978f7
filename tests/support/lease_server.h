/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lease server of this test run, as tests/support/with_lease.py started it. One thread, but for the URL.
 */
#ifndef HADB_TESTS_LEASE_SERVER_H
#define HADB_TESTS_LEASE_SERVER_H
#include "base/util.h"

/*
 * The URL in the environment variable @name, with a place of its own for this call (a prefix, a bucket).
 * False when the variable is not set, where @name does not end in LEASE_URL: that server has no such thing.
 */
bool lease_server_url(const char *name, char *out, size_t size);

/*
 * Does something to the server, and waits until it is done:
 *   "kill" (SIGKILL), "start", "pause" (SIGSTOP), "resume", "forget" (killed, wiped, started)
 * or to the relay between the server and HADB_TEST_LEASE_RELAY_URL:
 *   "pass", "mute" (replies are swallowed), "freeze" (half-open: nothing passes, nothing ends),
 *   "cut" (connections are reset, new ones too)
 */
void lease_server_tell(const char *wish);
#endif
