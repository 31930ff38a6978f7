/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns reading the shared profile files of AWS tools ("~/.aws/credentials", "~/.aws/config"). Not base/config.h,
 * whose lines end at 190 bytes: a session token alone is longer.
 *
 * Thread: any; no state.
 * Invariants: slices point into the text; lines that mean nothing here (nested ones above all) are passed over, since
 * the file belongs to other programs.
 * Failure modes: none; a section that is absent is not found.
 */
#include <string.h>

#include "base/buf.h"
#include "storage/s3_creds_private.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct hadb_slice trim(struct hadb_slice s)
{
    const char *text = s.data;
    while (s.len > 0 && is_blank(text[0])) {
        text++;
        s.len--;
    }
    while (s.len > 0 && is_blank(text[s.len - 1])) {
        s.len--;
    }
    s.data = text;
    return s;
}

/* The first line; the rest stays in *text. */
static struct hadb_slice take_line(struct hadb_slice *text)
{
    const char *start = text->data;
    const char *end = memchr(start, '\n', text->len);
    size_t len = end ? (size_t)(end - start) : text->len;
    size_t used = end ? len + 1 : len;
    *text = hadb_slice(start + used, text->len - used);
    return hadb_slice(start, len);
}

/* Is this the header of the section that is wanted? @line starts with '['. */
static bool is_section(struct hadb_slice line, const char *name, bool is_config)
{
    static const char word[] = "profile";
    const char *text = line.data;
    const char *close = memchr(text, ']', line.len);
    if (!close) {
        return false;
    }
    struct hadb_slice title = trim(hadb_slice(text + 1, (size_t)(close - text) - 1));
    if (is_config && title.len > sizeof(word) - 1 &&
        memcmp(title.data, word, sizeof(word) - 1) == 0 &&
        is_blank(((const char *)title.data)[sizeof(word) - 1])) {
        title = trim(hadb_slice((const char *)title.data + sizeof(word) - 1,
                                title.len - (sizeof(word) - 1)));
    } else if (is_config && strcmp(name, "default") != 0) {
        return false;
    }
    return hadb_slice_eq(title, hadb_slice_str(name));
}

/* A remark begins with '#' or ';' behind a blank. */
static struct hadb_slice without_remark(struct hadb_slice value)
{
    const char *text = value.data;
    for (size_t i = 1; i < value.len; i++) {
        if ((text[i] == '#' || text[i] == ';') && is_blank(text[i - 1])) {
            return trim(hadb_slice(text, i));
        }
    }
    return value;
}

static void read_setting(struct hadb_slice line, struct hadb__s3_profile *out)
{
    const struct {
        const char *name;
        struct hadb_slice *value;
    } known[] = {
        {"aws_access_key_id", &out->key_id},
        {"aws_secret_access_key", &out->secret},
        {"aws_session_token", &out->token},
        {"role_arn", &out->role_arn},
        {"web_identity_token_file", &out->token_file},
        {"role_session_name", &out->session_name},
    };
    const char *text = line.data;
    const char *equals = memchr(text, '=', line.len);
    if (!equals) {
        return;
    }
    size_t at = (size_t)(equals - text);
    struct hadb_slice name = trim(hadb_slice(text, at));
    struct hadb_slice value = without_remark(trim(hadb_slice(text + at + 1, line.len - at - 1)));
    for (size_t i = 0; i < HADB_LEN(known); i++) {
        if (hadb_slice_eq(name, hadb_slice_str(known[i].name))) {
            *known[i].value = value;
        }
    }
}

void hadb__s3_profile_read(struct hadb_slice text, const char *name, bool is_config,
                           struct hadb__s3_profile *out)
{
    bool inside = false;
    while (text.len > 0) {
        struct hadb_slice line = take_line(&text);
        char first = line.len > 0 ? *(const char *)line.data : '\n';
        if (first == '[') {
            inside = is_section(line, name, is_config);
            out->found = out->found || inside;
        } else if (inside && !is_blank(first) && first != '#' && first != ';' && first != '\n') {
            read_setting(line, out);
        }
    }
}
