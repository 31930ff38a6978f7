/* SPDX-License-Identifier: Apache-2.0 */
/* Passes TCP connections on to a server on this host's loopback; a process of its own. */
#ifndef HADB_BENCH_RELAY_H
#define HADB_BENCH_RELAY_H

struct bench_relay {
    const char *host;  /* IPv4 to listen on, in the namespace of the caller */
    unsigned port;     /* of the server */
    unsigned delay_ms; /* each byte of the answers is held back for so long */
    int netns;         /* where the server is; 0 = where the caller is */
};

/* Returns the port it listens on; ends the program on failure. */
unsigned bench_relay_start(const struct bench_relay *relay, int *pid);
void bench_relay_stop(int pid);
#endif
