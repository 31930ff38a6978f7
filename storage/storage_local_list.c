/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the listing of the local backend: folders walked in the byte order of object keys.
 *
 * Thread: any; no state beyond the call.
 * Invariants: a folder "a" sorts as "a/", because its keys do ("a-b" < "a.b" < "a/b" < "a0"); names that
 * are no keys (foreign files, everything dotted) are passed over; folders that cannot hold a wanted key
 * are not opened.
 * Happy path: start at the deepest folder of the prefix, sort each folder's entries, go down depth first
 * until the page is full and one more key is seen.
 * Failure modes: HADB_ENOMEM, HADB_EIO and HADB_EAUTH with the folder. A file that vanishes in between
 * is left out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "storage/key.h"
#include "storage/storage_local_private.h"
#include "storage/storage_private.h"

struct walk {
    const struct hadb__local *l;
    const struct hadb_call *call;
    const char *prefix;
    const char *after;
    size_t max;
    struct hadb_object_list *out;
    char key[HADB_OBJECT_KEY_BYTES_MAX + 2]; /* where the walk is: "" or "a/b/" */
};

/* The wanted entries of one folder; folders end in a slash. */
struct entries {
    const struct walk *w;
    size_t key_len; /* of w->key, the folder */
    char **names;
    size_t len, cap;
};

static void entries_deinit(struct entries *e)
{
    for (size_t i = 0; i < e->len; i++) {
        hadb_free(e->names[i]);
    }
    hadb_free(e->names);
}

static bool starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* Can @key be, or (for a folder) contain, a key that the caller asked for? */
static bool wanted(const struct walk *w, const char *key, bool is_dir)
{
    if (!is_dir) {
        return starts(key, w->prefix) && strcmp(key, w->after) > 0;
    }
    bool on_the_way = starts(key, w->prefix) || starts(w->prefix, key);
    return on_the_way && (strcmp(key, w->after) > 0 || starts(w->after, key));
}

static int each_entry(void *arg, const char *name, bool is_dir)
{
    struct entries *e = arg;
    size_t name_len = strlen(name);
    size_t len = e->key_len + name_len + (is_dir ? 1 : 0);
    if (len > HADB_OBJECT_KEY_BYTES_MAX || hadb__object_key_check(name, NULL) != 0) {
        return 0; /* not ours */
    }
    char key[HADB_OBJECT_KEY_BYTES_MAX + 2];
    memcpy(key, e->w->key, e->key_len);
    memcpy(key + e->key_len, name, name_len);
    key[len - 1] = is_dir ? '/' : key[len - 1];
    key[len] = '\0';
    if (!wanted(e->w, key, is_dir)) {
        return 0;
    }
    if (e->len == e->cap) {
        size_t cap = e->cap ? 2 * e->cap : 64;
        char **names = hadb_realloc(e->names, cap * sizeof(*names));
        if (!names) {
            return HADB_ENOMEM;
        }
        e->names = names;
        e->cap = cap;
    }
    e->names[e->len] = hadb_strdup(key + e->key_len);
    if (!e->names[e->len]) {
        return HADB_ENOMEM;
    }
    e->len++;
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds the object at w->key; says so in out->truncated when the page is full already. */
static int add_object(struct walk *w, struct hadb_error *err)
{
    if (w->out->len == w->max) {
        w->out->truncated = true;
        return 0;
    }
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_fs_file *file = NULL;
    uint64_t size = 0;
    int r = hadb_path_join(path, w->l->base, w->key, err);
    if (r == 0) {
        r = hadb_fs_open(w->l->fs, path, HADB_FS_READ, &file, err);
    }
    if (r == HADB_ABSENT) {
        return 0;
    }
    if (r == 0) {
        r = hadb_fs_size(w->l->fs, file, &size, err);
    }
    hadb_fs_close(w->l->fs, file);
    return r ? hadb_wrap(err, r, "list %.100s", w->key)
             : hadb__object_list_add(w->out, hadb_slice_str(w->key), size, err);
}

/* Reads the folder at w->key into @e, sorted. A folder that is not there is empty. */
static int read_folder(struct walk *w, struct entries *e, struct hadb_error *err)
{
    struct hadb_error cause = {0};
    char *path = hadb_malloc(HADB_PATH_BYTES_MAX); /* on the heap: the walk recurses */
    if (!path) {
        return hadb_fail_nomem(err);
    }
    int r = hadb_path_join(path, w->l->base, w->key, &cause);
    if (r == 0) {
        r = hadb_fs_list(w->l->fs, path, each_entry, e, &cause);
    }
    hadb_free(path);
    if (r == HADB_ABSENT || cause.sys_errno == ENOTDIR) {
        return 0;
    }
    if (r) {
        if (err) {
            *err = cause;
        }
        return r == HADB_ENOMEM ? hadb_fail_nomem(err) : r;
    }
    if (e->len > 1) {
        qsort(e->names, e->len, sizeof(*e->names), by_bytes);
    }
    return 0;
}

/* Depth is bounded by the length of a key: a level takes at least two bytes of 1024. */
static int walk_folder(struct walk *w, size_t key_len, struct hadb_error *err)
{
    int r = hadb_call_check(w->l->env, w->call, err);
    if (r) {
        return r;
    }
    struct entries e = {.w = w, .key_len = key_len};
    r = read_folder(w, &e, err);
    for (size_t i = 0; i < e.len && r == 0 && !w->out->truncated; i++) {
        size_t len = strlen(e.names[i]);
        memcpy(w->key + key_len, e.names[i], len + 1);
        bool is_dir = e.names[i][len - 1] == '/';
        r = is_dir ? walk_folder(w, key_len + len, err) : add_object(w, err);
    }
    entries_deinit(&e);
    w->key[key_len] = '\0';
    return r;
}

int hadb__local_list(const struct hadb__local *l, const struct hadb_call *call, const char *prefix,
                     const char *after, size_t max, struct hadb_object_list *out,
                     struct hadb_error *err)
{
    HADB_ASSERT(max >= 1 && max <= HADB_LIST_LEN_MAX);
    struct walk w = {
        .l = l, .call = call, .prefix = prefix, .after = after, .max = max, .out = out};
    const char *slash = strrchr(prefix, '/');
    size_t key_len = slash ? (size_t)(slash - prefix) + 1 : 0;
    memcpy(w.key, prefix, key_len);
    return walk_folder(&w, key_len, err);
}
