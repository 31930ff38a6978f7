/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses: parsing "host:port", telling loopback and wildcard, opening a listening socket.
 *
 * Thread: any. No state. Names are never looked up here, so nothing blocks.
 * Failure modes: text that is no address (HADB_EINVAL, names the text and the form that is wanted), an
 * address the system refuses (HADB_EIO or HADB_EAUTH, with its errno).
 */
#include "node/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/url.h"
#include "base/util.h"

static int bad_address(const char *text, struct hadb_error *err)
{
    return hadb_fail(err, HADB_EINVAL,
                     "bad address '%.100s': write HOST:PORT or [IPV6]:PORT, port 0 to 65535", text);
}

static bool host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
}

/* Cuts "host" and "port" apart; the host comes without brackets. */
static bool split(const char *text, struct hadb_net_address *out, const char **port)
{
    const char *host = text;
    const char *end;
    if (*text == '[') {
        host = text + 1;
        end = strchr(host, ']');
        if (!end || end[1] != ':') {
            return false;
        }
        *port = end + 2;
    } else {
        end = strrchr(text, ':');
        if (!end) {
            return false;
        }
        *port = end + 1;
    }
    size_t len = (size_t)(end - host);
    if (len == 0 || len > HADB_NET_HOST_BYTES_MAX) {
        return false;
    }
    memcpy(out->host, host, len);
    out->host[len] = '\0';
    return true;
}

static bool resolve_numeric(struct hadb_net_address *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&out->sockaddr;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out->sockaddr;
    if (inet_pton(AF_INET, out->host, &v4->sin_addr) == 1) {
        out->family = AF_INET;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(out->port);
        out->sockaddr_len = sizeof(*v4);
        return true;
    }
    if (inet_pton(AF_INET6, out->host, &v6->sin6_addr) == 1) {
        out->family = AF_INET6;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(out->port);
        out->sockaddr_len = sizeof(*v6);
        return true;
    }
    return false;
}

int hadb_net_parse(const char *text, struct hadb_net_address *out, struct hadb_error *err)
{
    struct hadb_net_address address;
    const char *port_text = NULL;
    uint64_t port = 0;
    memset(&address, 0, sizeof(address));
    if (!text || !split(text, &address, &port_text) ||
        !hadb_parse_u64(port_text, 0, 65535, &port)) {
        return bad_address(text ? text : "", err);
    }
    address.port = (uint16_t)port;
    address.family = AF_UNSPEC;
    bool numeric = resolve_numeric(&address);
    if (numeric && (*text == '[') != (address.family == AF_INET6)) {
        return bad_address(text,
                           err); /* "::1:80" would be ambiguous, "[127.0.0.1]" is no address */
    }
    if (!numeric) {
        /* Digits and dots only: meant as IPv4, and wrong. */
        bool digits = strspn(address.host, "0123456789.") == strlen(address.host);
        if (*text == '[' || digits) {
            return bad_address(text, err);
        }
        for (const char *p = address.host; *p; p++) {
            if (!host_char(*p)) {
                return bad_address(text, err);
            }
        }
    }
    *out = address;
    return 0;
}

void hadb_net_format(const struct hadb_net_address *address, char out[HADB_NET_TEXT_BYTES])
{
    int n = address->family == AF_INET6
                ? snprintf(out, HADB_NET_TEXT_BYTES, "[%s]:%u", address->host, address->port)
                : snprintf(out, HADB_NET_TEXT_BYTES, "%s:%u", address->host, address->port);
    HADB_ASSERT(n > 0 && n < (int)HADB_NET_TEXT_BYTES);
}

bool hadb_net_is_loopback(const struct hadb_net_address *address)
{
    if (address->family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->sockaddr;
        return (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
    }
    if (address->family == AF_INET6) {
        const struct in6_addr *v6 = &((const struct sockaddr_in6 *)&address->sockaddr)->sin6_addr;
        return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
    }
    return strcmp(address->host, "localhost") == 0;
}

bool hadb_net_is_wildcard(const struct hadb_net_address *address)
{
    if (address->family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->sockaddr;
        return v4->sin_addr.s_addr == htonl(INADDR_ANY);
    }
    if (address->family == AF_INET6) {
        const struct in6_addr *v6 = &((const struct sockaddr_in6 *)&address->sockaddr)->sin6_addr;
        static const uint8_t mapped_any[16] = {[10] = 0xff, [11] = 0xff};
        return IN6_IS_ADDR_UNSPECIFIED(v6) || memcmp(v6, mapped_any, sizeof(mapped_any)) == 0;
    }
    return false;
}

/* Reads back which port the system chose. */
static int read_port(int fd, struct hadb_net_address *address, struct hadb_error *err)
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    if (getsockname(fd, (struct sockaddr *)&bound, &len) != 0) {
        return hadb_fail_errno(err, errno, "read the port of %s", address->host);
    }
    in_port_t port = bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                 : ((struct sockaddr_in *)&bound)->sin_port;
    address->sockaddr = bound;
    address->sockaddr_len = len;
    address->port = ntohs(port);
    return 0;
}

static int bind_and_listen(int fd, struct hadb_net_address *address, int backlog_max,
                           struct hadb_error *err)
{
    char text[HADB_NET_TEXT_BYTES];
    int on = 1;
    hadb_net_format(address, text);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) {
        return hadb_fail_errno(err, errno, "set SO_REUSEADDR for %s", text);
    }
    if (bind(fd, (const struct sockaddr *)&address->sockaddr, address->sockaddr_len) != 0 ||
        listen(fd, backlog_max) != 0) {
        if (errno == EADDRINUSE) {
            return hadb_fail_errno(err, errno,
                                   "cannot listen on %s: choose another port, or 0 for any", text);
        }
        return hadb_fail_errno(err, errno, "cannot listen on %s", text);
    }
    return read_port(fd, address, err);
}

int hadb_net_listen(struct hadb_net_address *address, int backlog_max, int *fd_out,
                    struct hadb_error *err)
{
    if (address->family == AF_UNSPEC && strcmp(address->host, "localhost") == 0) {
        snprintf(address->host, sizeof(address->host), "127.0.0.1");
        bool numeric = resolve_numeric(address);
        HADB_ASSERT(numeric);
    }
    if (address->family == AF_UNSPEC) {
        return hadb_fail(err, HADB_EINVAL,
                         "cannot listen on the name '%.100s': write the numeric address",
                         address->host);
    }
    int fd = socket(address->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return hadb_fail_errno(err, errno, "open a socket for %s", address->host);
    }
    int r = bind_and_listen(fd, address, backlog_max, err);
    if (r != 0) {
        close(fd);
        return r;
    }
    *fd_out = fd;
    return 0;
}

bool hadb_net_traffic(int fd, uint64_t *received, uint64_t *sent)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    memset(&info, 0, sizeof(info));
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 ||
        len < offsetof(struct tcp_info, tcpi_bytes_sent) + sizeof(info.tcpi_bytes_sent)) {
        return false;
    }
    *received = info.tcpi_bytes_received;
    *sent = info.tcpi_bytes_sent;
    return true;
}
