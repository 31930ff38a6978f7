/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration file. Items are whole, in the order of their lines and within the limits; a refusal names
 * the file. */
#include "base/config.h"
#include "fuzz/input.h"
#include "fuzz/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char *const names[] = {".a", "node.b", "node.c*", NULL};
    struct hadb_config config = {0};
    struct hadb_error err = {0};
    fuzz_memory_start();
    int r = hadb_config_parse("x.conf", hadb_slice(data, len), &config, &err);
    if (r != 0) {
        HADB_ASSERT((r == HADB_EINVAL || r == HADB_ETOOBIG) && err.code == r);
        HADB_ASSERT(strncmp(err.message, "x.conf", 6) == 0);
        HADB_ASSERT(strchr(err.message, '\n') == NULL);
    } else {
        unsigned line = 0;
        HADB_ASSERT(config.len <= HADB_CONFIG_ITEMS_MAX);
        for (size_t i = 0; i < config.len; i++) {
            const struct hadb_config_item *item = &config.items[i];
            HADB_ASSERT(item->section && item->name && item->value && item->line > line);
            HADB_ASSERT(strlen(item->section) + strlen(item->name) + strlen(item->value) <= len);
            HADB_ASSERT(hadb_config_find(&config, item->section, item->name, NULL) <= item);
            line = item->line;
        }
        r = hadb_config_known(&config, names, &err);
        HADB_ASSERT(r == 0 || (r == HADB_EINVAL && err.code == r));
    }
    hadb_config_deinit(&config);
    fuzz_memory_end(64 * len + 4096, 128 * len + 16384);
    return 0;
}
