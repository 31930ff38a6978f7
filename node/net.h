/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses as users write them: "127.0.0.1:4280", "[::1]:4280", "host.example:4280". Nothing here looks
 * a name up or opens a connection. Any thread. */
#ifndef HADB_NODE_NET_H
#define HADB_NODE_NET_H
#include <sys/socket.h>

#include "hadb/error.h"

#define HADB_NET_HOST_BYTES_MAX 253u
#define HADB_NET_TEXT_BYTES (HADB_NET_HOST_BYTES_MAX + 9u) /* brackets, colon, port, NUL */

struct hadb_net_address {
    char host[HADB_NET_HOST_BYTES_MAX + 1]; /* without brackets */
    uint16_t port;
    int family;                       /* AF_INET, AF_INET6, or AF_UNSPEC for a name */
    struct sockaddr_storage sockaddr; /* set when family is not AF_UNSPEC */
    socklen_t sockaddr_len;
};

/* Parses "host:port" or "[v6]:port"; port 0..65535. "localhost" stays a name. HADB_EINVAL names the text. */
int hadb_net_parse(const char *text, struct hadb_net_address *out, struct hadb_error *err);
/* Writes the text form; a v6 host gets its brackets back. */
void hadb_net_format(const struct hadb_net_address *address, char out[HADB_NET_TEXT_BYTES]);
/* 127.0.0.0/8, ::1, ::ffff:127.0.0.0/104 and the name "localhost". */
bool hadb_net_is_loopback(const struct hadb_net_address *address);
/* 0.0.0.0 and ::. */
bool hadb_net_is_wildcard(const struct hadb_net_address *address);
/* Opens a listening socket (non-blocking, close-on-exec, SO_REUSEADDR) and puts the port really
 * bound into address->port. "localhost" means 127.0.0.1; any other name is HADB_EINVAL. HADB_EIO or
 * HADB_EAUTH with the address in the text when the system refuses. */
int hadb_net_listen(struct hadb_net_address *address, int backlog_max, int *fd_out,
                    struct hadb_error *err);
/* Payload bytes that a TCP socket has received and sent; false when the system does not tell. */
bool hadb_net_traffic(int fd, uint64_t *received, uint64_t *sent);
#endif
