/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the next step behind a failure of the network or of TLS: what a user may have to change.
 *
 * Thread: any; a const table. The texts are those of libcurl, OpenSSL, nats.c and our own, looked at for words, since
 * codes do not tell an expired certificate from one of a stranger.
 * Failure modes: none; a text that nobody knows has the advice of its kind of failure, or none.
 */
#include <string.h>

#include "base/http.h"
#include "base/util.h"

#define WANTS_TLS "is it the right port, or one that wants TLS?"
#define NO_TLS "that port speaks no TLS: take another one, or a url without TLS"
#define CUT_TLS "the handshake was cut: is it a port with TLS?"
#define NO_ANSWER "no answer came: is it the right port, and is the server alive?"
#define WANTS_CERT "the server asks for a certificate of ours: add cert=FILE and key=FILE"

static const struct {
    const char *words; /* somewhere in the text */
    const char *advice;
} known[] = {
    {"wrong version number", NO_TLS},
    {"packet length too long", NO_TLS},
    {"http request", NO_TLS},
    {"Secure Connection not available", NO_TLS},
    {"certificate required", WANTS_CERT},
    {"alert bad certificate", WANTS_CERT},
    {"has expired", "renew the server's certificate, or set the clock of this host"},
    {"not yet valid", "set the clock of this host, or of the server that made the certificate"},
    {"subject name", "use a host name that stands in the server's certificate"},
    {"IP address mismatch", "use a host name that stands in the server's certificate"},
    {"ostname mismatch", "use a host name that stands in the server's certificate"},
    {"certificate file", "ca= must name a readable file with certificates (PEM)"},
    {"verify locations", "ca= must name a readable file with certificates (PEM)"},
    {"client certificate", "cert= and key= must name readable files (PEM) that belong together"},
    {"private key", "cert= and key= must name readable files (PEM) that belong together"},
    {"resolve host", "is the name of the host right, and does this host's DNS know it?"},
    {"SSL connection timeout", "the port is open, but silent: does it speak TLS?"},
    {"SSL_ERROR_SYSCALL", CUT_TLS},
    {"unexpected eof", CUT_TLS},
    {"HTTP/0.9", WANTS_TLS},
    {"Empty reply", WANTS_TLS},
    {"not the protocol", WANTS_TLS},
    {"before the reply", WANTS_TLS},
    {"Timeout", NO_ANSWER},
    {"No server available", "is the server up, and are host and port right?"},
};

const char *hadb__http_advice(enum hadb__http_failure failure, const char *text)
{
    for (size_t i = 0; i < HADB_LEN(known); i++) {
        if (strstr(text, known[i].words)) {
            return known[i].advice;
        }
    }
    switch (failure) {
    case HADB__HTTP_UNTRUSTED:
        return "if the certificate is your own, add ca=FILE";
    case HADB__HTTP_UNREACHABLE:
        return "is the server up, are host and port right, is a firewall between?";
    case HADB__HTTP_IDLE:
    case HADB__HTTP_LATE:
        return NO_ANSWER;
    default:
        return NULL;
    }
}
