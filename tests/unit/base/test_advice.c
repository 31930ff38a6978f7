/* SPDX-License-Identifier: Apache-2.0 */
/* What is said behind a failure of the network or of TLS. The texts are those that the libraries gave on real servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/http.h"
#include "base/util.h"

static void advice__fits_what_happened(void **state)
{
    (void)state;
    static const struct {
        enum hadb__http_failure failure;
        const char *text, *words;
    } cases[] = {
        {HADB__HTTP_UNTRUSTED, "SSL certificate problem: unable to get local issuer certificate",
         "add ca=FILE"},
        {HADB__HTTP_UNTRUSTED,
         "SSL handshake error: 19:self-signed certificate in certificate chain:depth=1",
         "add ca=FILE"},
        {HADB__HTTP_UNTRUSTED, "SSL certificate problem: certificate has expired", "renew"},
        {HADB__HTTP_UNTRUSTED, "SSL handshake error: 10:certificate has expired:depth=0", "renew"},
        {HADB__HTTP_UNTRUSTED, "SSL certificate problem: certificate is not yet valid", "clock"},
        {HADB__HTTP_UNTRUSTED,
         "SSL: no alternative certificate subject name matches target host name '127.0.0.1'",
         "name that stands in"},
        {HADB__HTTP_UNTRUSTED, "SSL handshake error: 64:IP address mismatch:depth=0",
         "name that stands in"},
        {HADB__HTTP_UNTRUSTED, "SSL handshake error: 62:hostname mismatch:depth=0",
         "name that stands in"},
        {HADB__HTTP_UNTRUSTED, "OpenSSL/3.0.2: error:0A00010B:SSL routines::wrong version number",
         "speaks no TLS"},
        {HADB__HTTP_UNTRUSTED, "Secure Connection not available", "speaks no TLS"},
        {HADB__HTTP_UNTRUSTED, "error setting certificate file: /x", "ca= must name"},
        {HADB__HTTP_UNTRUSTED, "could not load PEM client certificate from /x, OpenSSL error …",
         "cert= and key="},
        {HADB__HTTP_BROKEN,
         "OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno "
         "0",
         "add cert=FILE"},
        {HADB__HTTP_BROKEN, "Received HTTP/0.9 when not allowed", "wants TLS"},
        {HADB__HTTP_BROKEN, "Empty reply from server", "wants TLS"},
        {HADB__HTTP_BROKEN, "what came is not the protocol of redis", "wants TLS"},
        {HADB__HTTP_BROKEN, "OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to h:1 ",
         "port with TLS"},
        {HADB__HTTP_UNREACHABLE, "Could not resolve host: nowhere.invalid", "DNS"},
        {HADB__HTTP_UNREACHABLE, "SSL connection timeout", "speak TLS"},
        {HADB__HTTP_UNREACHABLE, "Failed to connect to h port 1: Couldn't connect to server",
         "is the server up"},
        {HADB__HTTP_UNREACHABLE, "No server available for connection", "is the server up"},
        {HADB__HTTP_UNREACHABLE, "Timeout", "no answer came"},
        {HADB__HTTP_IDLE, "no byte moved for too long", "no answer came"},
        {HADB__HTTP_LATE, "the deadline has passed", "no answer came"},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        const char *advice = hadb__http_advice(cases[i].failure, cases[i].text);
        if (!advice || !strstr(advice, cases[i].words)) {
            fail_msg("%s: %s", cases[i].text, advice ? advice : "nothing");
        }
        assert_true(strlen(advice) <= 80); /* a message has 239, and says what was tried as well */
    }
}

static void advice__is_not_given_where_nothing_is_known(void **state)
{
    (void)state;
    assert_null(hadb__http_advice(HADB__HTTP_CANCELED, "cancelled"));
    assert_null(hadb__http_advice(HADB__HTTP_NO_MEMORY, "out of memory"));
    assert_null(hadb__http_advice(HADB__HTTP_BROKEN, "transfer closed with 5 bytes remaining"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(advice__fits_what_happened),
        cmocka_unit_test(advice__is_not_given_where_nothing_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
