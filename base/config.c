/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration files through libinih.
 *
 * Thread: any; no state outside the call.
 * Invariants: libinih reads through next_line() below, which counts lines, so every item and every
 * message knows its own; indentation means nothing (libinih would take an indented line for the rest
 * of the one above).
 * Failure modes: the first bad line is reported and nothing is returned.
 */
#include "base/config.h"

#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/fs.h"

struct parser {
    struct hadb_config config;
    size_t cap;
    const char *rest, *end;
    unsigned line;
    int result; /* the first failure; nothing is parsed after it */
    struct hadb_error *err;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static int line_fail(struct parser *p, const char *what)
{
    if (p->result == 0) {
        p->result = hadb_fail(p->err, HADB_EINVAL, "%s:%u: %s", p->config.path, p->line, what);
    }
    return p->result;
}

/* Called by libinih in place of fgets: hands out one line, without indentation. */
static char *next_line(char *out, int size, void *stream)
{
    struct parser *p = stream;
    HADB_ASSERT(size > 2);
    if (p->rest == p->end || p->result != 0) {
        return NULL;
    }
    p->line++;
    const char *start = p->rest;
    const char *feed = memchr(start, '\n', (size_t)(p->end - start));
    const char *stop = feed ? feed : p->end;
    p->rest = feed ? feed + 1 : p->end;
    while (start < stop && is_blank(*start)) {
        start++;
    }
    while (stop > start && is_blank(stop[-1])) {
        stop--;
    }
    size_t len = (size_t)(stop - start);
    if (len > (size_t)size - 2) {
        line_fail(p, "line is too long");
        return NULL;
    }
    if (memchr(start, '\0', len)) {
        line_fail(p, "line holds a NUL byte; is this a text file?");
        return NULL;
    }
    memcpy(out, start, len);
    memcpy(out + len, "\n", 2);
    return out;
}

static void item_deinit(struct hadb_config_item *item)
{
    hadb_free(item->section);
    hadb_free(item->name);
    hadb_free(item->value);
}

static int items_grow(struct parser *p)
{
    if (p->config.len < p->cap) {
        return 0;
    }
    size_t cap = p->cap ? p->cap * 2 : 16;
    struct hadb_config_item *items = hadb_realloc(p->config.items, cap * sizeof *items);
    if (!items) {
        return HADB_ENOMEM;
    }
    p->config.items = items;
    p->cap = cap;
    return 0;
}

/* Called by libinih for each item; 1 = go on. */
static int take_item(void *user, const char *section, const char *name, const char *value)
{
    struct parser *p = user;
    if (p->result != 0) {
        return 0;
    }
    if (!name || !name[0] || !value) {
        line_fail(p, "expected name = value");
        return 0;
    }
    if (p->config.len == HADB_CONFIG_ITEMS_MAX) {
        line_fail(p, "too many settings");
        return 0;
    }
    struct hadb_config_item item = {.section = hadb_strdup(section),
                                    .name = hadb_strdup(name),
                                    .value = hadb_strdup(value),
                                    .line = p->line};
    if (!item.section || !item.name || !item.value || items_grow(p) < 0) {
        item_deinit(&item);
        p->result = hadb_fail_nomem(p->err);
        return 0;
    }
    p->config.items[p->config.len++] = item;
    return 1;
}

int hadb_config_parse(const char *path, struct hadb_slice text, struct hadb_config *out,
                      struct hadb_error *err)
{
    struct parser p = {.err = err, .rest = text.data};
    if (text.len > HADB_CONFIG_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "%s: more than %u bytes", path, HADB_CONFIG_BYTES_MAX);
    }
    p.end = text.len ? p.rest + text.len : p.rest;
    p.config.path = hadb_strdup(path);
    if (!p.config.path) {
        return hadb_fail_nomem(err);
    }
    int bad_line = ini_parse_stream(next_line, &p, take_item, &p);
    if (p.result == 0 && bad_line > 0) {
        p.line = (unsigned)bad_line;
        line_fail(&p, "expected [section] or name = value");
    }
    if (p.result == 0 && bad_line < 0) {
        p.result = hadb_fail_nomem(err);
    }
    if (p.result < 0) {
        hadb_config_deinit(&p.config);
        return p.result;
    }
    *out = p.config;
    return 0;
}

int hadb_config_read(const struct hadb_fs *fs, const char *path, struct hadb_config *out,
                     struct hadb_error *err)
{
    struct hadb_buf text = {0};
    int r = hadb_fs_read_file(fs, path, HADB_CONFIG_BYTES_MAX, &text, err);
    if (r == 0) {
        r = hadb_config_parse(path, hadb_buf_slice(&text), out, err);
    }
    hadb_buf_deinit(&text);
    return r;
}

void hadb_config_deinit(struct hadb_config *config)
{
    if (!config) {
        return;
    }
    for (size_t i = 0; i < config->len; i++) {
        item_deinit(&config->items[i]);
    }
    hadb_free(config->items);
    hadb_free(config->path);
    *config = (struct hadb_config){0};
}

const struct hadb_config_item *hadb_config_find(const struct hadb_config *config,
                                                const char *section, const char *name,
                                                const struct hadb_config_item *after)
{
    size_t i = after ? (size_t)(after - config->items) + 1 : 0;
    for (; i < config->len; i++) {
        const struct hadb_config_item *item = &config->items[i];
        if (strcmp(item->section, section) == 0 && strcmp(item->name, name) == 0) {
            return item;
        }
    }
    return NULL;
}

int hadb_config_fail(const struct hadb_config *config, const struct hadb_config_item *item,
                     struct hadb_error *err, const char *fmt, ...)
{
    char text[sizeof err->message];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return hadb_fail(err, HADB_EINVAL, "%s:%u: %s", config->path, item->line, len < 0 ? "" : text);
}

/* The entry of @names that allows @item, NULL if none does. */
static const char *known_name(const struct hadb_config_item *item, const char *const *names)
{
    size_t section_len = strlen(item->section);
    size_t name_len = strlen(item->name);
    for (; *names; names++) {
        const char *name = *names;
        if (strncmp(name, item->section, section_len) != 0 || name[section_len] != '.') {
            continue;
        }
        name += section_len + 1;
        if (strncmp(name, item->name, name_len) == 0 &&
            (name[name_len] == '\0' || strcmp(name + name_len, "*") == 0)) {
            return *names;
        }
    }
    return NULL;
}

int hadb_config_known(const struct hadb_config *config, const char *const *names,
                      struct hadb_error *err)
{
    for (size_t i = 0; i < config->len; i++) {
        const struct hadb_config_item *item = &config->items[i];
        const char *known = known_name(item, names);
        if (!known) {
            return hadb_config_fail(config, item, err, "unknown setting '%s' in section '%s'",
                                    item->name, item->section);
        }
        const struct hadb_config_item *first =
            hadb_config_find(config, item->section, item->name, NULL);
        if (first != item && known[strlen(known) - 1] != '*') {
            return hadb_config_fail(config, item, err, "'%s' was set in line %u already",
                                    item->name, first->line);
        }
    }
    return 0;
}
