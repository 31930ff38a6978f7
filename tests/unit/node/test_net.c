/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses: parsing, loopback, wildcard, listening. */
#include "tests/unit/node/transport_help.h"

static struct hadb_net_address parsed(const char *text)
{
    struct hadb_net_address address;
    struct hadb_error err = {0};
    if (hadb_net_parse(text, &address, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return address;
}

static void net__parse_keeps_host_and_port_and_formats_them_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"127.0.0.1:4280",      "[::1]:0",
                                        "[fe80::1:2]:65535",   "localhost:1",
                                        "db-1.example.org:80", "0.0.0.0:4280"};
    char out[HADB_NET_TEXT_BYTES];
    for (size_t i = 0; i < HADB_LEN(texts); i++) {
        struct hadb_net_address address = parsed(texts[i]);
        hadb_net_format(&address, out);
        assert_string_equal(out, texts[i]);
    }
    assert_int_equal(parsed("127.0.0.1:80").family, AF_INET);
    assert_int_equal(parsed("[::1]:80").family, AF_INET6);
    assert_int_equal(parsed("example.org:80").family, AF_UNSPEC);
}

static void net__parse_refuses_text_that_is_no_address_and_names_it(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",         ":80",         "127.0.0.1",      "127.0.0.1:",    "127.0.0.1:65536",
        "1.2.3:80", "::1:80",      "[::1]",          "[::1]80",       "[127.0.0.1]:80",
        "a b:80",   "host:8o",     "host:-1",        "host: 80",      "[::1:80",
        "h\n:80",   "http://x:80", "256.256.1.1:80", "[localhost]:1", "host:080808"};
    for (size_t i = 0; i < HADB_LEN(texts); i++) {
        struct hadb_net_address address;
        struct hadb_error err = {0};
        if (hadb_net_parse(texts[i], &address, &err) != HADB_EINVAL) {
            fail_msg("accepted '%s'", texts[i]);
        }
        assert_non_null(strstr(err.message, "bad address"));
    }
    char longest[400];
    memset(longest, 'a', sizeof(longest));
    strcpy(longest + 300, ":80");
    struct hadb_net_address address;
    assert_int_equal(hadb_net_parse(longest, &address, NULL), HADB_EINVAL);
    assert_int_equal(hadb_net_parse(NULL, &address, NULL), HADB_EINVAL);
}

static void net__knows_loopback_and_wildcard(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool loopback, wildcard;
    } cases[] = {
        {"127.0.0.1:1", true, false},
        {"127.255.3.4:1", true, false},
        {"128.0.0.1:1", false, false},
        {"[::1]:1", true, false},
        {"[::ffff:127.0.0.1]:1", true, false},
        {"[::ffff:10.0.0.1]:1", false, false},
        {"localhost:1", true, false},
        {"localhost.example:1", false, false},
        {"0.0.0.0:1", false, true},
        {"[::]:1", false, true},
        {"[::ffff:0.0.0.0]:1", false, true},
        {"10.0.0.1:1", false, false},
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        struct hadb_net_address address = parsed(cases[i].text);
        assert_int_equal(hadb_net_is_loopback(&address), cases[i].loopback);
        assert_int_equal(hadb_net_is_wildcard(&address), cases[i].wildcard);
    }
}

static void net__listen_reports_the_port_and_a_taken_one(void **state)
{
    (void)state;
    struct hadb_net_address first = parsed("localhost:0");
    struct hadb_error err = {0};
    int fd = -1;
    int other = -1;
    assert_int_equal(hadb_net_listen(&first, 8, &fd, &err), 0);
    assert_int_not_equal(first.port, 0);
    char text[HADB_NET_TEXT_BYTES];
    hadb_net_format(&first, text);
    struct hadb_net_address second = parsed(text);
    assert_int_equal(hadb_net_listen(&second, 8, &other, &err), HADB_EIO);
    assert_int_equal(err.sys_errno, EADDRINUSE);
    assert_non_null(strstr(err.message, text));
    struct hadb_net_address name = parsed("example.org:0");
    assert_int_equal(hadb_net_listen(&name, 8, &other, &err), HADB_EINVAL);
    struct hadb_net_address foreign = parsed("192.0.2.1:0"); /* not ours: TEST-NET-1 */
    assert_int_equal(hadb_net_listen(&foreign, 8, &other, &err), HADB_EIO);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(net__parse_keeps_host_and_port_and_formats_them_back),
        cmocka_unit_test(net__parse_refuses_text_that_is_no_address_and_names_it),
        cmocka_unit_test(net__knows_loopback_and_wildcard),
        cmocka_unit_test(net__listen_reports_the_port_and_a_taken_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
