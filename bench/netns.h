/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts that can vanish: a network namespace per node, joined by a bridge in one more that the bench
 * itself enters. Needs root and the program ip. Addresses exist only inside those namespaces.
 */
#ifndef HADB_BENCH_NETNS_H
#define HADB_BENCH_NETNS_H
#include <stdbool.h>

/* Makes the namespaces of @len nodes and moves the calling thread into the middle one. Ends the program with a clear
 * message when that is not possible. */
void bench_netns_open(unsigned len);
/* Removes everything; may be called twice, and without open. */
void bench_netns_close(void);
/* A descriptor for setns(); owned here. */
int bench_netns_fd(unsigned index);
/* IPv4 of a node; static. */
const char *bench_netns_host(unsigned index);
/* @url with each server of loopback (127.0.0.1:PORT) replaced by an address that the nodes can reach. Call free(). */
char *bench_netns_url(const char *url);
/* Takes the host off the network, silently for all others, or puts it back. */
void bench_netns_link(unsigned index, bool up);
#endif
