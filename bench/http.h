/* SPDX-License-Identifier: Apache-2.0 */
/* A small HTTP/1.1 client over one keep-alive connection, with a deadline in every call. One thread per client. */
#ifndef HADB_BENCH_HTTP_H
#define HADB_BENCH_HTTP_H
#include <stddef.h>
#include <stdint.h>

enum {
    BENCH_HTTP_REFUSED = -1, /* no connection: nothing was sent */
    BENCH_HTTP_LOST = -2,    /* the connection broke or fell silent after something was sent */
};

struct bench_http {
    int fd;           /* -1 = not connected */
    char address[64]; /* IPv4:port */
    char token[128];  /* "" = none */
    char *data;       /* received */
    size_t len, cap;
};

struct bench_reply {
    int status;
    uint64_t term, txid; /* Hadb-Version, 0 when absent */
    const char *body;    /* in the client's buffer, NUL behind it; valid until the next call */
    size_t body_len;
};

void bench_http_init(struct bench_http *http, const char *address, const char *token);
void bench_http_deinit(struct bench_http *http);
/* Drops the connection, so that the next request opens a new one, maybe elsewhere. */
void bench_http_point(struct bench_http *http, const char *address);

/* @headers: further lines, each with \r\n. 0, or BENCH_HTTP_*. */
int bench_http_send(struct bench_http *http, const char *method, const char *path,
                    const char *headers, const void *body, size_t body_len, uint64_t deadline_ns);
/* The status of the answer, or BENCH_HTTP_LOST. */
int bench_http_receive(struct bench_http *http, uint64_t deadline_ns, struct bench_reply *out);
/* Both. */
int bench_http_request(struct bench_http *http, const char *method, const char *path,
                       const char *headers, const void *body, size_t body_len, uint64_t deadline_ns,
                       struct bench_reply *out);
#endif
