/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a URL; percent-encoding there and back. */
#include "base/url.h"
#include "fuzz/input.h"

static void try_url(const char *text)
{
    struct hadb_url url = {0};
    struct hadb_error err = {0};
    uint64_t number = 0;
    int r = hadb_url_parse(text, &url, &err);
    if (r != 0) {
        HADB_ASSERT((r == HADB_EINVAL || r == HADB_ETOOBIG) && err.message[0] != '\0');
        return;
    }
    HADB_ASSERT(url.scheme != NULL && url.scheme[0] != '\0');
    HADB_ASSERT(url.authority != NULL && url.path != NULL);
    HADB_ASSERT(url.params_len <= HADB_URL_PARAMS_MAX);
    for (size_t i = 0; i < url.params_len; i++) {
        HADB_ASSERT(hadb_url_param(&url, url.params[i].name) != NULL);
        r = hadb_url_param_u64(&url, url.params[i].name, 1, 100, 7, &number, NULL);
        HADB_ASSERT(r != 0 || (number >= 1 && number <= 100));
    }
    (void)hadb_url_params_known(&url, (const char *const[]){"a", NULL}, NULL);
    hadb_url_deinit(&url);
    hadb_url_deinit(&url);
}

static void try_percent(const char *text, size_t len)
{
    struct hadb_buf encoded = {0};
    struct hadb_buf decoded = {0};
    struct hadb_buf foreign = {0};
    HADB_ASSERT(hadb_percent_encode(hadb_slice(text, len), &encoded) == 0);
    HADB_ASSERT(hadb_percent_decode((const char *)encoded.data, encoded.len, &decoded));
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&decoded), hadb_slice(text, len)));
    if (hadb_percent_decode(text, len, &foreign)) {
        HADB_ASSERT(foreign.len <= len);
    }
    hadb_buf_deinit(&encoded);
    hadb_buf_deinit(&decoded);
    hadb_buf_deinit(&foreign);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hadb_buf text = {0};
    HADB_ASSERT(hadb_buf_append(&text, data, len) == 0);
    const char *cstr = hadb_buf_cstr(&text);
    HADB_ASSERT(cstr != NULL);
    try_url(cstr);
    try_percent(cstr, len);
    hadb_buf_deinit(&text);
    return 0;
}
