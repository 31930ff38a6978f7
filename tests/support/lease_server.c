/* SPDX-License-Identifier: Apache-2.0 */
/* See lease_server.h. */
#include "tests/support/lease_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PLACE "UNIQUE"

bool lease_server_url(const char *name, char *out, size_t size)
{
    static int serial;
    const char *given = getenv(name);
    if (!given) {
        HADB_ASSERT(strcmp(name, "HADB_TEST_LEASE_URL") != 0); /* with_lease.py sets it */
        return false;
    }
    const char *place = strstr(given, PLACE);
    HADB_ASSERT(place);
    int len = snprintf(out, size, "%.*st%x-%d%s", (int)(place - given), given, (unsigned)getpid(),
                       __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED), place + strlen(PLACE));
    HADB_ASSERT(len > 0 && (size_t)len < size);
    return true;
}

static int control_connect(void)
{
    const char *port = getenv("HADB_TEST_LEASE_CONTROL");
    assert_non_null(port);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(port)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

void lease_server_tell(const char *wish)
{
    char line[256];
    int len = snprintf(line, sizeof(line), "%s\n", wish);
    int fd = control_connect();
    assert_int_equal(write(fd, line, (size_t)len), len);
    size_t got = 0;
    for (ssize_t n = 1; n > 0 && got < sizeof(line) - 1;) {
        n = read(fd, line + got, sizeof(line) - 1 - got);
        got += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    line[got] = '\0';
    if (strcmp(line, "ok\n") != 0) {
        fail_msg("the server cannot %s: %s", wish, line);
    }
}
