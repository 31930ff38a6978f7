/* SPDX-License-Identifier: Apache-2.0 */
/* The counting and failing file system. Everything but inner and network is read and written atomically. */
#include <errno.h>

#include "base/error.h"
#include "tests/support/support.h"

static const char *const op_names[TEST_FS_OPS] = {
    "open", "read",   "write", "sync",  "truncate", "size", "rename",
    "link", "unlink", "mkdir", "rmdir", "sync_dir", "list", "lock",
};

/* Counts one operation; true when it has to fail. */
static bool strike(struct test_faultfs *f, enum test_fs_op op)
{
    __atomic_add_fetch(&f->per_op[op], 1, __ATOMIC_RELAXED);
    unsigned mask = __atomic_load_n(&f->mask, __ATOMIC_RELAXED);
    if (mask && !(mask & 1u << op)) {
        return false;
    }
    uint64_t n = __atomic_add_fetch(&f->count, 1, __ATOMIC_RELAXED);
    uint64_t at = __atomic_load_n(&f->fail_at, __ATOMIC_RELAXED);
    bool sticky = __atomic_load_n(&f->sticky, __ATOMIC_RELAXED);
    bool fails = at != 0 && (sticky ? n >= at : n == at);
    if (fails) {
        __atomic_store_n(&f->hit, true, __ATOMIC_RELAXED);
    }
    return fails;
}

static int fault(struct test_faultfs *f, enum test_fs_op op, struct hadb_error *err)
{
    int sys_errno = __atomic_load_n(&f->sys_errno, __ATOMIC_RELAXED);
    return hadb_fail_errno(err, sys_errno ? sys_errno : EIO, "injected into %s", op_names[op]);
}

#define FORWARD(op, call)          \
    struct test_faultfs *f = self; \
    return strike(f, op) ? fault(f, op, err) : (call)

static int fault_open(void *self, const char *path, unsigned flags, struct hadb_fs_file **out,
                      struct hadb_error *err)
{
    FORWARD(TEST_FS_OPEN, hadb_fs_open(&f->inner, path, flags, out, err));
}

static void fault_close(void *self, struct hadb_fs_file *file)
{
    struct test_faultfs *f = self;
    hadb_fs_close(&f->inner, file);
}

static int fault_read_at(void *self, struct hadb_fs_file *file, uint64_t offset, void *data,
                         size_t len, size_t *out_len, struct hadb_error *err)
{
    FORWARD(TEST_FS_READ, hadb_fs_read_at(&f->inner, file, offset, data, len, out_len, err));
}

static int fault_write_at(void *self, struct hadb_fs_file *file, uint64_t offset, const void *data,
                          size_t len, struct hadb_error *err)
{
    struct test_faultfs *f = self;
    if (!strike(f, TEST_FS_WRITE)) {
        return hadb_fs_write_at(&f->inner, file, offset, data, len, err);
    }
    if (__atomic_load_n(&f->torn, __ATOMIC_RELAXED) && len > 1) {
        hadb_fs_write_at(&f->inner, file, offset, data, len / 2, NULL);
    }
    return fault(f, TEST_FS_WRITE, err);
}

static int fault_sync(void *self, struct hadb_fs_file *file, struct hadb_error *err)
{
    FORWARD(TEST_FS_SYNC, hadb_fs_sync(&f->inner, file, err));
}

static int fault_truncate(void *self, struct hadb_fs_file *file, uint64_t size,
                          struct hadb_error *err)
{
    FORWARD(TEST_FS_TRUNCATE, hadb_fs_truncate(&f->inner, file, size, err));
}

static int fault_size(void *self, struct hadb_fs_file *file, uint64_t *out, struct hadb_error *err)
{
    FORWARD(TEST_FS_SIZE, hadb_fs_size(&f->inner, file, out, err));
}

static int fault_rename(void *self, const char *from, const char *to, struct hadb_error *err)
{
    FORWARD(TEST_FS_RENAME, hadb_fs_rename(&f->inner, from, to, err));
}

static int fault_link(void *self, const char *from, const char *to, struct hadb_error *err)
{
    FORWARD(TEST_FS_LINK, hadb_fs_link(&f->inner, from, to, err));
}

static int fault_unlink(void *self, const char *path, struct hadb_error *err)
{
    FORWARD(TEST_FS_UNLINK, hadb_fs_unlink(&f->inner, path, err));
}

static int fault_mkdir(void *self, const char *path, struct hadb_error *err)
{
    FORWARD(TEST_FS_MKDIR, hadb_fs_mkdir(&f->inner, path, err));
}

static int fault_rmdir(void *self, const char *path, struct hadb_error *err)
{
    FORWARD(TEST_FS_RMDIR, hadb_fs_rmdir(&f->inner, path, err));
}

static int fault_sync_dir(void *self, const char *path, struct hadb_error *err)
{
    FORWARD(TEST_FS_SYNC_DIR, hadb_fs_sync_dir(&f->inner, path, err));
}

static int fault_list(void *self, const char *path,
                      int (*each)(void *arg, const char *name, bool is_dir), void *arg,
                      struct hadb_error *err)
{
    FORWARD(TEST_FS_LIST, hadb_fs_list(&f->inner, path, each, arg, err));
}

static int fault_lock(void *self, struct hadb_fs_file *file, struct hadb_error *err)
{
    FORWARD(TEST_FS_LOCK, hadb_fs_lock(&f->inner, file, err));
}

static const char *fault_network(void *self, const char *path)
{
    const struct test_faultfs *f = self;
    return f->network ? f->network : hadb_fs_network(&f->inner, path);
}

static const struct hadb_fs_ops fault_ops = {
    .abi = HADB_FS_ABI,
    .open = fault_open,
    .close = fault_close,
    .read_at = fault_read_at,
    .write_at = fault_write_at,
    .sync = fault_sync,
    .truncate = fault_truncate,
    .size = fault_size,
    .rename = fault_rename,
    .link = fault_link,
    .unlink = fault_unlink,
    .mkdir = fault_mkdir,
    .rmdir = fault_rmdir,
    .sync_dir = fault_sync_dir,
    .list = fault_list,
    .lock = fault_lock,
    .network = fault_network,
};

struct hadb_fs test_faultfs(struct test_faultfs *faultfs)
{
    return (struct hadb_fs){.ops = &fault_ops, .self = faultfs};
}
