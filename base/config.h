/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: [section], name = value, comments with ; or #. Parsed by libinih. Any thread. */
#ifndef HADB_BASE_CONFIG_H
#define HADB_BASE_CONFIG_H
#include "base/util.h"
#include "hadb/env.h"

#define HADB_CONFIG_BYTES_MAX (1u << 20)
#define HADB_CONFIG_ITEMS_MAX 4096u

struct hadb_config_item {
    char *section; /* "" above the first section */
    char *name;
    char *value;
    unsigned line;
};
/* Items in the order of the file; a name may occur more than once. The zero value is empty. */
struct hadb_config {
    char *path; /* for messages */
    struct hadb_config_item *items;
    size_t len;
};

/* HADB_ABSENT; HADB_EINVAL with "file:line: …"; HADB_ETOOBIG; HADB_EIO; HADB_EAUTH; HADB_ENOMEM.
 * A line holds about 190 bytes at most (a limit that libinih was built with); a longer one is refused. */
int hadb_config_read(const struct hadb_fs *fs, const char *path, struct hadb_config *out,
                     struct hadb_error *err);
int hadb_config_parse(const char *path, struct hadb_slice text, struct hadb_config *out,
                      struct hadb_error *err);
void hadb_config_deinit(struct hadb_config *config);
/* The first such item behind @after (NULL = from the start), NULL when there is none. */
const struct hadb_config_item *hadb_config_find(const struct hadb_config *config,
                                                const char *section, const char *name,
                                                const struct hadb_config_item *after);
/* HADB_EINVAL naming the first item that is not in the NULL-terminated list of "section.name"
 * (".name" above the first section), or that occurs twice and is not marked there by a final '*'. */
int hadb_config_known(const struct hadb_config *config, const char *const *names,
                      struct hadb_error *err);
/* HADB_EINVAL with "file:line: " before the text. */
int hadb_config_fail(const struct hadb_config *config, const struct hadb_config_item *item,
                     struct hadb_error *err, const char *fmt, ...) HADB_PRINTF(4, 5);
#endif
