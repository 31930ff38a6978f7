/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as an address, uuid, version, bookmark, number or secret-bearing URL. One value has one text, where that is
 * promised; the rest means the same when it is written again. */
#include <strings.h>

#include "base/id.h"
#include "base/url.h"
#include "fuzz/input.h"
#include "hadb/executor.h"
#include "hadb/kv.h"
#include "node/net.h"

static void try_address(const char *text)
{
    struct hadb_net_address address, back;
    char again[HADB_NET_TEXT_BYTES], once_more[HADB_NET_TEXT_BYTES];
    struct hadb_error err = {0};
    if (hadb_net_parse(text, &address, &err) != 0) {
        HADB_ASSERT(err.code == HADB_EINVAL && strchr(err.message, '\n') == NULL);
        return;
    }
    hadb_net_format(&address, again);
    HADB_ASSERT(hadb_net_parse(again, &back, NULL) == 0);
    HADB_ASSERT(back.port == address.port && back.family == address.family);
    HADB_ASSERT(strcmp(back.host, address.host) == 0);
    HADB_ASSERT(hadb_net_is_loopback(&back) == hadb_net_is_loopback(&address));
    HADB_ASSERT(!hadb_net_is_loopback(&back) || !hadb_net_is_wildcard(&back));
    hadb_net_format(&back, once_more);
    HADB_ASSERT(strcmp(again, once_more) == 0);
    for (const char *at = again; *at; at++) {
        HADB_ASSERT(*at > ' ' && *at <= '~' && *at != '/' && *at != '@');
    }
}

static void try_ids(const char *text)
{
    struct hadb_id id;
    struct hadb_version version;
    struct hadb_bookmark bookmark;
    char again[HADB_ID_TEXT_BYTES], version_text[HADB_VERSION_TEXT_BYTES];
    if (hadb_id_parse(text, &id)) {
        hadb_id_format(&id, again);
        HADB_ASSERT(strcasecmp(again, text) == 0);
    }
    if (hadb_version_parse(text, &version)) {
        hadb_version_format(&version, version_text);
        HADB_ASSERT(strcmp(version_text, text) == 0);
    }
    if (hadb_bookmark_parse(text, &id, &version)) {
        hadb_bookmark_format(&id, &version, &bookmark);
        HADB_ASSERT(strcasecmp(bookmark.s, text) == 0);
    }
}

/* The same text with a password before '@', and as the value of a parameter: neither shows. */
static void try_secrets(const char *text)
{
    static const char secret[] = "Zy9#Qw";
    struct hadb_buf url = {0};
    char shown[HADB_URL_SHOWN_BYTES];
    for (size_t bytes = 1; bytes <= sizeof(shown); bytes += 37) {
        memset(shown, 'x', sizeof(shown));
        HADB_ASSERT(hadb_url_redact(text, shown, bytes) == shown);
        HADB_ASSERT(memchr(shown, '\0', bytes) != NULL);
    }
    if (strstr(text, "#Q")) {
        return;
    }
    HADB_ASSERT(hadb_buf_printf(&url, "s3://k:%s@h/%s", secret, text) == 0);
    hadb_url_redact(hadb_buf_cstr(&url), shown, sizeof(shown));
    HADB_ASSERT(strstr(shown, "#Q") == NULL);
    hadb_buf_clear(&url);
    HADB_ASSERT(hadb_buf_printf(&url, "s3://b/p?secret_key=%s&%s", secret, text) == 0);
    hadb_url_redact(hadb_buf_cstr(&url), shown, sizeof(shown));
    HADB_ASSERT(strstr(shown, "#Q") == NULL);
    hadb_buf_deinit(&url);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hadb_buf text = {0};
    uint64_t number = 0;
    HADB_ASSERT(hadb_buf_append(&text, data, len) == 0);
    const char *cstr = hadb_buf_cstr(&text);
    HADB_ASSERT(cstr != NULL);
    try_address(cstr);
    try_ids(cstr);
    try_secrets(cstr);
    HADB_ASSERT(!hadb_parse_u64(cstr, 3, 65536, &number) || (number >= 3 && number <= 65536));
    hadb_buf_deinit(&text);
    return 0;
}
