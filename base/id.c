/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UUIDs of version 4 and 7, their text form, and the names of nodes and databases.
 *
 * Thread: any; no state.
 */
#include "base/id.h"

#include <string.h>

#include "base/buf.h"

static void id_stamp(struct hadb_id *id, unsigned version)
{
    id->b[6] = (uint8_t)(version << 4 | (id->b[6] & 0x0f));
    id->b[8] = (uint8_t)(0x80 | (id->b[8] & 0x3f));
}

void hadb_id_random(const struct hadb_env *env, struct hadb_id *out)
{
    hadb_random(env, out->b, sizeof out->b);
    id_stamp(out, 4);
}

void hadb_id_v7(const struct hadb_env *env, struct hadb_id *out)
{
    hadb_id_v7_at(env, hadb_now_unix_ms(env), out);
}

void hadb_id_v7_at(const struct hadb_env *env, int64_t unix_ms, struct hadb_id *out)
{
    hadb_random(env, out->b, sizeof out->b);
    uint64_t ms = unix_ms > 0 ? (uint64_t)unix_ms : 0;
    for (int i = 0; i < 6; i++) {
        out->b[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    id_stamp(out, 7);
}

void hadb_id_format(const struct hadb_id *id, char out[HADB_ID_TEXT_BYTES])
{
    char hex[2 * sizeof id->b + 1];
    hadb_hex_encode(id->b, sizeof id->b, hex);
    size_t at = 0;
    for (size_t i = 0; i < 2 * sizeof id->b; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20) {
            out[at++] = '-';
        }
        out[at++] = hex[i];
    }
    out[at] = '\0';
    HADB_ASSERT(at == HADB_ID_TEXT_BYTES - 1);
}

bool hadb_id_parse(const char *text, struct hadb_id *out)
{
    if (strnlen(text, HADB_ID_TEXT_BYTES) != HADB_ID_TEXT_BYTES - 1) {
        return false;
    }
    char hex[2 * sizeof out->b];
    size_t at = 0;
    for (size_t i = 0; i < HADB_ID_TEXT_BYTES - 1; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash != (text[i] == '-')) {
            return false;
        }
        if (!dash) {
            hex[at++] = text[i];
        }
    }
    struct hadb_id id;
    if (!hadb_hex_decode(hex, sizeof hex, id.b, sizeof id.b)) {
        return false;
    }
    *out = id;
    return true;
}

bool hadb_id_is_v7(const struct hadb_id *id)
{
    return id->b[6] >> 4 == 7 && id->b[8] >> 6 == 2;
}

int64_t hadb_id_v7_unix_ms(const struct hadb_id *id)
{
    int64_t ms = 0;
    for (int i = 0; i < 6; i++) {
        ms = ms << 8 | id->b[i];
    }
    return ms;
}

static bool name_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

bool hadb_name_valid(const char *name)
{
    if (!name || name[0] == '.') {
        return false;
    }
    size_t len = strnlen(name, HADB_NAME_BYTES_MAX + 1);
    if (len == 0 || len > HADB_NAME_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!name_char(name[i])) {
            return false;
        }
    }
    return true;
}

bool hadb_address_valid(const char *address)
{
    while (*address > ' ' && *address <= '~') {
        address++;
    }
    return *address == '\0';
}
