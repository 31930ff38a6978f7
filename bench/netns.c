/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network namespaces for `failover --fault vanish`.
 *
 * Layout: namespace "hadb-<pid>-hub" holds a bridge with 10.231.77.1; namespace "hadb-<pid>-<i>" holds one end of a
 * veth pair with 10.231.77.<10+i>, whose other end is a port of the bridge. Neighbour entries are permanent, so that a
 * vanished host is a black hole for everybody, as behind a router, and not "no route to host" after a second.
 * Nothing is added to the namespace that the program was started in. Servers on its loopback, for storage and lease, are
 * reached through relays that listen on 10.231.77.1 and connect where the program was started.
 *
 * Thread: the main one, before any other is started (threads inherit the namespace).
 * Failure: any step that fails ends the program; close() removes what there is.
 */
#include "bench/netns.h"

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/cluster.h"
#include "bench/relay.h"
#include "bench/stats.h"

#define HUB "10.231.77.1"
#define RELAYS_MAX 8u

static struct {
    unsigned len; /* node namespaces made so far */
    bool hub;     /* the middle one exists */
    int fds[BENCH_NODES_MAX];
    char hosts[BENCH_NODES_MAX][24];
    int home; /* the namespace that the program was started in */
    int relays[RELAYS_MAX];
    unsigned relays_len;
} net;

/* Runs "ip …"; words are separated by single spaces. */
static bool run_ip(char *command, bool quiet)
{
    const char *argv[32] = {"ip"};
    size_t len = 1;
    char *save = NULL;
    for (char *word = strtok_r(command, " ", &save); word != NULL && len < 31;
         word = strtok_r(NULL, " ", &save)) {
        argv[len++] = word;
    }
    return bench_run(argv, quiet);
}

static void __attribute__((format(printf, 1, 2))) ip(const char *fmt, ...)
{
    char command[512];
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    memcpy(text, command, sizeof text);
    if (!run_ip(command, false)) {
        bench_die("'ip %s' failed; --fault vanish needs root, iproute2 and network namespaces",
                  text);
    }
}

static int open_netns(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "/run/netns/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        bench_die("cannot open %s", path);
    }
    return fd;
}

static void make_host(unsigned i)
{
    char name[48];
    int pid = (int)getpid();
    snprintf(name, sizeof name, "hadb-%d-%u", pid, i);
    snprintf(net.hosts[i], sizeof net.hosts[i], "10.231.77.%u", 10 + i);
    ip("netns add %s", name);
    net.len = i + 1;
    ip("-n hadb-%d-hub link add port%u type veth peer name eth0 netns %s", pid, i, name);
    ip("-n %s link set eth0 address 02:68:61:64:62:%02x", name, 16 + i);
    ip("-n hadb-%d-hub link set port%u master bridge", pid, i);
    ip("-n hadb-%d-hub link set port%u up", pid, i);
    ip("-n %s address add %s/24 dev eth0", name, net.hosts[i]);
    ip("-n %s link set eth0 up", name);
    ip("-n %s link set lo up", name);
    net.fds[i] = open_netns(name);
}

static void add_neighbours(unsigned len)
{
    int pid = (int)getpid();
    for (unsigned i = 0; i < len; i++) {
        ip("-n hadb-%d-hub neigh replace %s lladdr 02:68:61:64:62:%02x dev bridge nud permanent",
           pid, net.hosts[i], 16 + i);
        for (unsigned k = 0; k < len; k++) {
            if (k != i) {
                ip("-n hadb-%d-%u neigh replace %s lladdr 02:68:61:64:62:%02x dev eth0 nud "
                   "permanent",
                   pid, i, net.hosts[k], 16 + k);
            }
        }
    }
}

void bench_netns_open(unsigned len)
{
    int pid = (int)getpid();
    if (geteuid() != 0) {
        bench_die("--fault vanish needs root: it makes network namespaces");
    }
    net.home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (net.home < 0) {
        bench_die("cannot open the network namespace of this process");
    }
    atexit(bench_netns_close);
    ip("netns add hadb-%d-hub", pid);
    net.hub = true;
    ip("-n hadb-%d-hub link add bridge type bridge", pid);
    ip("-n hadb-%d-hub address add " HUB "/24 dev bridge", pid);
    ip("-n hadb-%d-hub link set bridge up", pid);
    ip("-n hadb-%d-hub link set lo up", pid);
    for (unsigned i = 0; i < len; i++) {
        make_host(i);
    }
    add_neighbours(len);
    char name[48];
    snprintf(name, sizeof name, "hadb-%d-hub", pid);
    int fd = open_netns(name);
    if (setns(fd, CLONE_NEWNET) != 0) {
        bench_die("cannot enter the network namespace %s", name);
    }
    close(fd);
}

void bench_netns_close(void)
{
    char command[128];
    while (net.relays_len > 0) {
        bench_relay_stop(net.relays[--net.relays_len]);
    }
    while (net.len > 0) {
        net.len--;
        if (net.fds[net.len] > 0) {
            close(net.fds[net.len]);
        }
        snprintf(command, sizeof command, "netns del hadb-%d-%u", (int)getpid(), net.len);
        run_ip(command, true);
    }
    if (net.hub) {
        net.hub = false;
        snprintf(command, sizeof command, "netns del hadb-%d-hub", (int)getpid());
        run_ip(command, true);
    }
}

int bench_netns_fd(unsigned index)
{
    return net.fds[index];
}

const char *bench_netns_host(unsigned index)
{
    return net.hosts[index];
}

char *bench_netns_url(const char *url)
{
    static const char loopback[] = "127.0.0.1:";
    size_t cap = strlen(url) + RELAYS_MAX * 8 + 1, len = 0;
    char *out = bench_alloc(cap);
    for (const char *at; (at = strstr(url, loopback)) != NULL;) {
        char *end = NULL;
        struct bench_relay relay = {.host = HUB, .netns = net.home};
        relay.port = (unsigned)strtoul(at + strlen(loopback), &end, 10);
        if (net.relays_len == RELAYS_MAX || relay.port == 0 || relay.port > 65535) {
            bench_die("%u addresses of loopback at most, with their ports, in the URLs of store "
                      "and lease",
                      RELAYS_MAX);
        }
        unsigned port = bench_relay_start(&relay, &net.relays[net.relays_len]);
        net.relays_len++;
        len += (size_t)snprintf(out + len, cap - len, "%.*s" HUB ":%u", (int)(at - url), url, port);
        url = end;
    }
    snprintf(out + len, cap - len, "%s", url);
    return out;
}

void bench_netns_link(unsigned index, bool up)
{
    /* The program is inside the middle namespace already. */
    ip("link set port%u %s", index, up ? "up" : "down");
}
