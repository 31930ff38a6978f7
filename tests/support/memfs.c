/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system in memory; see memfs.h.
 *
 * Thread: any; one mutex guards everything.
 * Invariants: a node lives as long as an entry (current or synced) or a handle refers to it; bytes outside
 * [dirty_lo, dirty_hi) are equal in both images of a file.
 */
#include "tests/support/memfs.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "tests/support/support.h"

#define SECTOR_BYTES 512u
#define NAME_BYTES_MAX 255u

struct image {
    uint8_t *data;
    size_t len;
    size_t cap; /* bytes in len..cap are zero */
};

struct node;
struct entry {
    char *name;
    struct node *node; /* holds one reference */
};
struct table {
    struct entry *items;
    size_t len, cap;
};

struct node {
    unsigned refs;
    bool is_dir;
    struct image current, synced;         /* files */
    size_t dirty_lo, dirty_hi;            /* files: lo >= hi = clean */
    struct table entries, entries_synced; /* folders */
    struct handle *locked_by;
};

struct handle {
    struct node *node;
    uint64_t generation; /* of the file system, when it was opened */
    unsigned flags;
};

struct test_memfs {
    pthread_mutex_t mu;
    struct node *root;
    struct test_rng rng;
    uint64_t generation; /* crashes so far */
    uint64_t capacity;
    uint64_t used; /* current bytes of all living files */
};

static void *must_realloc(void *ptr, size_t size)
{
    /* Not hadb_malloc: tests that fail allocations mean those of the code under test. */
    void *fresh = realloc(ptr, size);
    HADB_ASSERT(fresh);
    return fresh;
}

static void image_resize(struct image *image, size_t len)
{
    if (len > image->cap) {
        size_t cap = HADB_MAX(len, image->cap * 2);
        image->data = must_realloc(image->data, cap);
        memset(image->data + image->cap, 0, cap - image->cap);
        image->cap = cap;
    }
    if (len < image->len) {
        memset(image->data + len, 0, image->len - len);
    }
    image->len = len;
}

static struct node *node_new(bool is_dir)
{
    struct node *node = must_realloc(NULL, sizeof *node);
    *node = (struct node){.refs = 1, .is_dir = is_dir};
    return node;
}

static void table_clear(struct test_memfs *m, struct table *table);

static void node_unref(struct test_memfs *m, struct node *node)
{
    HADB_ASSERT(node->refs > 0);
    if (--node->refs > 0) {
        return;
    }
    m->used -= node->current.len;
    free(node->current.data);
    free(node->synced.data);
    table_clear(m, &node->entries);
    table_clear(m, &node->entries_synced);
    free(node);
}

static void table_clear(struct test_memfs *m, struct table *table)
{
    for (size_t i = 0; i < table->len; i++) {
        free(table->items[i].name);
        node_unref(m, table->items[i].node);
    }
    free(table->items);
    *table = (struct table){0};
}

static struct entry *table_find(const struct table *table, const char *name)
{
    for (size_t i = 0; i < table->len; i++) {
        if (strcmp(table->items[i].name, name) == 0) {
            return &table->items[i];
        }
    }
    return NULL;
}

static void table_add(struct table *table, const char *name, struct node *node)
{
    if (table->len == table->cap) {
        table->cap = table->cap ? table->cap * 2 : 8;
        table->items = must_realloc(table->items, table->cap * sizeof *table->items);
    }
    size_t size = strlen(name) + 1;
    char *copy = must_realloc(NULL, size);
    memcpy(copy, name, size);
    node->refs++;
    table->items[table->len++] = (struct entry){.name = copy, .node = node};
}

static void table_remove(struct test_memfs *m, struct table *table, struct entry *entry)
{
    struct entry gone = *entry;
    size_t at = (size_t)(entry - table->items);
    memmove(entry, entry + 1, (table->len - at - 1) * sizeof *entry);
    table->len--;
    free(gone.name);
    node_unref(m, gone.node);
}

static void table_copy(struct test_memfs *m, struct table *to, const struct table *from)
{
    struct table fresh = {0};
    for (size_t i = 0; i < from->len; i++) {
        table_add(&fresh, from->items[i].name, from->items[i].node);
    }
    table_clear(m, to);
    *to = fresh;
}

/* Where a path leads: the folder that holds it, its last name, and the node if there is one. */
struct spot {
    struct node *parent; /* NULL: a folder on the way is missing, or the path is the root */
    char name[NAME_BYTES_MAX + 1];
    struct node *node;
    bool bad; /* a part is longer than NAME_BYTES_MAX */
};

static struct spot find(struct test_memfs *m, const char *path)
{
    struct spot spot = {.node = m->root};
    for (;;) {
        path += strspn(path, "/");
        size_t len = strcspn(path, "/");
        if (len == 0) {
            return spot;
        }
        spot.parent = spot.node && spot.node->is_dir ? spot.node : NULL;
        spot.node = NULL;
        if (!spot.parent || len > NAME_BYTES_MAX) {
            spot.bad = len > NAME_BYTES_MAX;
            spot.parent = NULL;
            return spot;
        }
        memcpy(spot.name, path, len);
        spot.name[len] = '\0';
        path += len;
        if (strcmp(spot.name, ".") == 0) {
            spot.node = spot.parent;
            continue;
        }
        struct entry *entry = table_find(&spot.parent->entries, spot.name);
        spot.node = entry ? entry->node : NULL;
    }
}

static struct test_memfs *enter(void *self)
{
    struct test_memfs *m = self;
    int r = pthread_mutex_lock(&m->mu);
    HADB_ASSERT(r == 0);
    return m;
}

static int leave(struct test_memfs *m, int r)
{
    int unlocked = pthread_mutex_unlock(&m->mu);
    HADB_ASSERT(unlocked == 0);
    return r;
}

static bool alive(const struct test_memfs *m, const struct handle *handle)
{
    return handle->generation == m->generation;
}

static int dead(struct hadb_error *err)
{
    return hadb_fail_errno(err, EIO, "file was open when the power went");
}

static void dirty(struct node *node, size_t lo, size_t hi)
{
    bool clean = node->dirty_lo >= node->dirty_hi;
    node->dirty_lo = clean ? lo : HADB_MIN(node->dirty_lo, lo);
    node->dirty_hi = clean ? hi : HADB_MAX(node->dirty_hi, hi);
}

static void file_resize(struct test_memfs *m, struct node *node, size_t len)
{
    size_t old = node->current.len;
    m->used += len;
    m->used -= old;
    image_resize(&node->current, len);
    dirty(node, HADB_MIN(old, len), HADB_MAX(old, len));
}

static int open_locked(struct test_memfs *m, const char *path, unsigned flags,
                       struct hadb_fs_file **out, struct hadb_error *err)
{
    struct spot spot = find(m, path);
    if (spot.node && (flags & HADB_FS_CREATE) && (flags & HADB_FS_EXCL)) {
        return HADB_EXISTS;
    }
    if (spot.node && spot.node->is_dir && (flags & HADB_FS_WRITE)) {
        return hadb_fail_errno(err, EISDIR, "open %s", path);
    }
    if (spot.bad) {
        return hadb_fail_errno(err, ENAMETOOLONG, "open %s", path);
    }
    if (!spot.node) {
        if (!(flags & HADB_FS_CREATE) || !spot.parent) {
            return HADB_ABSENT;
        }
        spot.node = node_new(false);
        table_add(&spot.parent->entries, spot.name, spot.node);
    } else {
        spot.node->refs++;
    }
    if ((flags & HADB_FS_TRUNC) && spot.node->current.len > 0) {
        file_resize(m, spot.node, 0);
    }
    struct handle *handle = must_realloc(NULL, sizeof *handle);
    *handle = (struct handle){.node = spot.node, .generation = m->generation, .flags = flags};
    *out = (struct hadb_fs_file *)handle;
    return 0;
}

static int mem_open(void *self, const char *path, unsigned flags, struct hadb_fs_file **out,
                    struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    return leave(m, open_locked(m, path, flags, out, err));
}

static void mem_close(void *self, struct hadb_fs_file *file)
{
    struct test_memfs *m = enter(self);
    struct handle *handle = (struct handle *)file;
    if (handle->node->locked_by == handle) {
        handle->node->locked_by = NULL;
    }
    node_unref(m, handle->node);
    free(handle);
    leave(m, 0);
}

static int mem_read_at(void *self, struct hadb_fs_file *file, uint64_t offset, void *data,
                       size_t len, size_t *out_len, struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    struct handle *handle = (struct handle *)file;
    if (!alive(m, handle)) {
        return leave(m, dead(err));
    }
    if (handle->node->is_dir || !(handle->flags & HADB_FS_READ)) {
        return leave(m, hadb_fail_errno(err, handle->node->is_dir ? EISDIR : EBADF, "read"));
    }
    const struct image *image = &handle->node->current;
    size_t rest = offset < image->len ? image->len - (size_t)offset : 0;
    *out_len = HADB_MIN(len, rest);
    if (*out_len > 0) {
        memcpy(data, image->data + offset, *out_len);
    }
    return leave(m, 0);
}

static int write_locked(struct test_memfs *m, struct handle *handle, uint64_t offset,
                        const void *data, size_t len, struct hadb_error *err)
{
    if (!alive(m, handle)) {
        return dead(err);
    }
    if (!(handle->flags & HADB_FS_WRITE)) {
        return hadb_fail_errno(err, EBADF, "write");
    }
    struct node *node = handle->node;
    uint64_t grown = HADB_MAX((uint64_t)node->current.len, offset + len) - node->current.len;
    uint64_t room = m->capacity - HADB_MIN(m->used, m->capacity);
    bool full = grown > room;
    if (full) {
        uint64_t cut = grown - room;
        len = cut < len ? len - (size_t)cut : 0;
    }
    if (len > 0) {
        if (offset + len > node->current.len) {
            file_resize(m, node, (size_t)offset + len);
        }
        memcpy(node->current.data + offset, data, len);
        dirty(node, (size_t)offset, (size_t)offset + len);
    }
    return full ? hadb_fail_errno(err, ENOSPC, "write") : 0;
}

static int mem_write_at(void *self, struct hadb_fs_file *file, uint64_t offset, const void *data,
                        size_t len, struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    return leave(m, write_locked(m, (struct handle *)file, offset, data, len, err));
}

/* Makes @to equal to @from, of which only lo..hi differs. */
static void image_copy(struct image *to, const struct image *from, size_t lo, size_t hi)
{
    image_resize(to, from->len);
    hi = HADB_MIN(hi, from->len);
    if (lo < hi) {
        memcpy(to->data + lo, from->data + lo, hi - lo);
    }
}

static void node_sync(struct node *node)
{
    image_copy(&node->synced, &node->current, node->dirty_lo, node->dirty_hi);
    node->dirty_lo = node->dirty_hi = 0;
}

static int mem_sync(void *self, struct hadb_fs_file *file, struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    struct handle *handle = (struct handle *)file;
    if (!alive(m, handle)) {
        return leave(m, dead(err));
    }
    if (!handle->node->is_dir) {
        node_sync(handle->node);
    }
    return leave(m, 0);
}

static int mem_truncate(void *self, struct hadb_fs_file *file, uint64_t size,
                        struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    struct handle *handle = (struct handle *)file;
    if (!alive(m, handle)) {
        return leave(m, dead(err));
    }
    if (!(handle->flags & HADB_FS_WRITE)) {
        return leave(m, hadb_fail_errno(err, EINVAL, "truncate"));
    }
    file_resize(m, handle->node, (size_t)size);
    return leave(m, 0);
}

static int mem_size(void *self, struct hadb_fs_file *file, uint64_t *out, struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    struct handle *handle = (struct handle *)file;
    if (!alive(m, handle)) {
        return leave(m, dead(err));
    }
    *out = handle->node->current.len;
    return leave(m, 0);
}

static bool contains(const struct node *folder, const struct node *node)
{
    bool found = folder == node;
    for (size_t i = 0; i < folder->entries.len && !found; i++) {
        found = contains(folder->entries.items[i].node, node);
    }
    return found;
}

static int rename_locked(struct test_memfs *m, const char *from, const char *to,
                         struct hadb_error *err)
{
    struct spot source = find(m, from);
    struct spot target = find(m, to);
    if (!source.node || !source.parent || !target.parent) {
        return hadb_fail_errno(err, ENOENT, "rename %s to %s", from, to);
    }
    if (source.node == target.node) {
        return 0;
    }
    if (contains(source.node, target.parent)) {
        return hadb_fail_errno(err, EINVAL, "rename %s into itself", from);
    }
    if (target.node && target.node->is_dir != source.node->is_dir) {
        return hadb_fail_errno(err, target.node->is_dir ? EISDIR : ENOTDIR, "rename %s to %s", from,
                               to);
    }
    if (target.node && target.node->entries.len > 0) {
        return hadb_fail_errno(err, ENOTEMPTY, "rename %s to %s", from, to);
    }
    struct entry *replaced = table_find(&target.parent->entries, target.name);
    if (replaced) {
        table_remove(m, &target.parent->entries, replaced);
    }
    table_add(&target.parent->entries, target.name, source.node);
    table_remove(m, &source.parent->entries, table_find(&source.parent->entries, source.name));
    return 0;
}

static int mem_rename(void *self, const char *from, const char *to, struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    return leave(m, rename_locked(m, from, to, err));
}

static int mem_link(void *self, const char *from, const char *to, struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    struct spot source = find(m, from);
    struct spot target = find(m, to);
    if (target.node) {
        return leave(m, HADB_EXISTS);
    }
    if (!source.node || source.node->is_dir || !target.parent) {
        int reason = source.node && source.node->is_dir ? EPERM : ENOENT;
        return leave(m, hadb_fail_errno(err, reason, "link %s to %s", from, to));
    }
    table_add(&target.parent->entries, target.name, source.node);
    return leave(m, 0);
}

/* unlink and rmdir. */
static int remove_locked(struct test_memfs *m, const char *path, bool is_dir,
                         struct hadb_error *err)
{
    struct spot spot = find(m, path);
    if (!spot.node) {
        return HADB_ABSENT;
    }
    int reason = !spot.parent                           ? EBUSY
                 : spot.node->is_dir && !is_dir         ? EISDIR
                 : !spot.node->is_dir && is_dir         ? ENOTDIR
                 : is_dir && spot.node->entries.len > 0 ? ENOTEMPTY
                                                        : 0;
    if (reason) {
        return hadb_fail_errno(err, reason, "remove %s", path);
    }
    table_remove(m, &spot.parent->entries, table_find(&spot.parent->entries, spot.name));
    return 0;
}

static int mem_unlink(void *self, const char *path, struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    return leave(m, remove_locked(m, path, false, err));
}

static int mem_rmdir(void *self, const char *path, struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    return leave(m, remove_locked(m, path, true, err));
}

static int mem_mkdir(void *self, const char *path, struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    struct spot spot = find(m, path);
    if (spot.node) {
        return leave(m, spot.node->is_dir ? 0 : hadb_fail_errno(err, ENOTDIR, "mkdir %s", path));
    }
    if (!spot.parent) {
        return leave(m, HADB_ABSENT);
    }
    struct node *node = node_new(true);
    table_add(&spot.parent->entries, spot.name, node);
    node_unref(m, node);
    return leave(m, 0);
}

static int mem_sync_dir(void *self, const char *path, struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    struct spot spot = find(m, path);
    if (!spot.node || !spot.node->is_dir) {
        return leave(m, hadb_fail_errno(err, spot.node ? ENOTDIR : ENOENT, "sync folder %s", path));
    }
    table_copy(m, &spot.node->entries_synced, &spot.node->entries);
    return leave(m, 0);
}

static int mem_list(void *self, const char *path,
                    int (*each)(void *arg, const char *name, bool is_dir), void *arg,
                    struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    struct spot spot = find(m, path);
    if (!spot.node || !spot.node->is_dir) {
        return leave(m, spot.node ? hadb_fail_errno(err, ENOTDIR, "list %s", path) : HADB_ABSENT);
    }
    /* A copy: @each may change the folder, and runs without the mutex. */
    struct table table = {0};
    table_copy(m, &table, &spot.node->entries);
    leave(m, 0);
    int r = 0;
    for (size_t i = 0; i < table.len && r == 0; i++) {
        r = each(arg, table.items[i].name, table.items[i].node->is_dir);
    }
    enter(self);
    table_clear(m, &table);
    return leave(m, r);
}

static int mem_lock(void *self, struct hadb_fs_file *file, struct hadb_error *err)
{
    struct test_memfs *m = enter(self);
    struct handle *handle = (struct handle *)file;
    if (!alive(m, handle)) {
        return leave(m, dead(err));
    }
    if (handle->node->locked_by && handle->node->locked_by != handle) {
        return leave(m, hadb_fail(err, HADB_ELOCKED, "locked by another handle"));
    }
    handle->node->locked_by = handle;
    return leave(m, 0);
}

static const struct hadb_fs_ops mem_ops = {
    .abi = HADB_FS_ABI,
    .open = mem_open,
    .close = mem_close,
    .read_at = mem_read_at,
    .write_at = mem_write_at,
    .sync = mem_sync,
    .truncate = mem_truncate,
    .size = mem_size,
    .rename = mem_rename,
    .link = mem_link,
    .unlink = mem_unlink,
    .mkdir = mem_mkdir,
    .rmdir = mem_rmdir,
    .sync_dir = mem_sync_dir,
    .list = mem_list,
    .lock = mem_lock,
};

/* The new bytes up to a random place, the old ones behind it. */
static void tear(struct test_memfs *m, struct node *node, size_t lo, size_t hi)
{
    size_t cut = lo + (size_t)test_rng_below(&m->rng, hi - lo + 1);
    size_t len = node->synced.len;
    if (node->current.len > len) {
        len = HADB_MAX(len, HADB_MIN(cut, node->current.len));
    } else if (test_rng_chance(&m->rng, 50)) {
        len = node->current.len;
    }
    image_resize(&node->synced, len);
    size_t end = HADB_MIN(HADB_MIN(cut, len), node->current.len);
    if (lo < end) {
        memcpy(node->synced.data + lo, node->current.data + lo, end - lo);
    }
}

/* Any of the new sectors, each or not; the length old, new, or in between. */
static void mix(struct test_memfs *m, struct node *node, size_t lo, size_t hi)
{
    size_t shorter = HADB_MIN(node->synced.len, node->current.len);
    size_t longer = HADB_MAX(node->synced.len, node->current.len);
    size_t len = shorter + (size_t)test_rng_below(&m->rng, longer - shorter + 1);
    image_resize(&node->synced, len);
    size_t end = HADB_MIN(HADB_MIN(hi, len), node->current.len);
    for (size_t at = lo - lo % SECTOR_BYTES; at < end; at += SECTOR_BYTES) {
        size_t from = HADB_MAX(at, lo);
        size_t to = HADB_MIN(at + SECTOR_BYTES, end);
        if (test_rng_chance(&m->rng, 50)) {
            memcpy(node->synced.data + from, node->current.data + from, to - from);
        }
    }
}

static void crash_file(struct test_memfs *m, struct node *node, enum test_memfs_crash how)
{
    size_t lo = node->dirty_lo;
    size_t hi = node->dirty_hi;
    if (lo < hi) {
        if (how == TEST_MEMFS_KEEP) {
            node_sync(node);
        } else if (how == TEST_MEMFS_TORN) {
            tear(m, node, lo, hi);
        } else if (how == TEST_MEMFS_MIXED) {
            mix(m, node, lo, hi);
        }
    }
    m->used -= node->current.len;
    m->used += node->synced.len;
    /* What the cut left is what the disk has: from now on both images are that. */
    image_resize(&node->current, 0);
    image_copy(&node->current, &node->synced, 0, node->synced.len);
    node->dirty_lo = node->dirty_hi = 0;
    node->locked_by = NULL;
}

/* Folders first decide what they hold, then all below it. @keep: entries that were not synced stay. */
static void crash_node(struct test_memfs *m, struct node *node, enum test_memfs_crash how,
                       bool keep)
{
    if (!node->is_dir) {
        crash_file(m, node, how);
        return;
    }
    if (keep) {
        table_copy(m, &node->entries_synced, &node->entries);
    } else {
        table_copy(m, &node->entries, &node->entries_synced);
    }
    for (size_t i = 0; i < node->entries.len; i++) {
        crash_node(m, node->entries.items[i].node, how, keep);
    }
}

void test_memfs_crash(struct test_memfs *memfs, enum test_memfs_crash how)
{
    struct test_memfs *m = enter(memfs);
    if (how == TEST_MEMFS_RANDOM) {
        how = (enum test_memfs_crash)test_rng_below(&m->rng, TEST_MEMFS_RANDOM);
    }
    bool keep = how == TEST_MEMFS_KEEP || (how != TEST_MEMFS_DROP && test_rng_chance(&m->rng, 50));
    m->generation++;
    crash_node(m, m->root, how, keep);
    leave(m, 0);
}

struct test_memfs *test_memfs_new(uint64_t seed)
{
    struct test_memfs *m = must_realloc(NULL, sizeof *m);
    *m = (struct test_memfs){.root = node_new(true), .capacity = UINT64_MAX};
    test_rng_seed(&m->rng, seed);
    int r = pthread_mutex_init(&m->mu, NULL);
    HADB_ASSERT(r == 0);
    return m;
}

void test_memfs_free(struct test_memfs *memfs)
{
    if (memfs) {
        node_unref(memfs, memfs->root);
        HADB_ASSERT(memfs->used == 0); /* a handle is still open */
        pthread_mutex_destroy(&memfs->mu);
        free(memfs);
    }
}

struct hadb_fs test_memfs_fs(struct test_memfs *memfs)
{
    return (struct hadb_fs){.ops = &mem_ops, .self = memfs};
}

void test_memfs_capacity(struct test_memfs *memfs, uint64_t bytes)
{
    struct test_memfs *m = enter(memfs);
    m->capacity = bytes;
    leave(m, 0);
}

uint64_t test_memfs_bytes(struct test_memfs *memfs)
{
    struct test_memfs *m = enter(memfs);
    uint64_t used = m->used;
    leave(m, 0);
    return used;
}
