/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's file system behind struct hadb_fs.
 *
 * Thread: any. The lock registry is guarded by registry_mu, which is never held over I/O.
 * Invariants: every descriptor is close-on-exec; EINTR and short transfers never reach the caller; a file
 * (device and inode) is locked by at most one handle of this process and one process of this host.
 * Happy path: one system call per method.
 * Failure modes: hadb_fail_errno with the path or the operation. After a failed sync the caller must
 * not try again and believe it: the kernel may have dropped the dirty pages.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/fs.h"

/* Masked by umask. Others have no business in a database. */
#define FILE_MODE 0640
#define FOLDER_MODE 0750
/* One transfer; the kernel's own limit is just below 2 GiB. */
#define TRANSFER_BYTES_MAX ((size_t)1 << 30)

struct host_file {
    int fd;
    bool locked;            /* registry_mu */
    dev_t dev;              /* const once locked */
    ino_t ino;              /* const once locked */
    struct host_file *next; /* registry_mu */
};

/* What hold() gives; every other method is given NULL or one of these. */
struct host_folder {
    int fd;
};

static pthread_mutex_t registry_mu = PTHREAD_MUTEX_INITIALIZER;
static struct host_file *registry; /* registry_mu: all locked files of this process */

/* Where relative paths start. */
static int start_of(const void *self)
{
    return self ? ((const struct host_folder *)self)->fd : AT_FDCWD;
}

/* 0 if the open @fd gives and takes bytes without somebody at the other end; a device is at best written to. */
static int refuse_special(int fd, const char *path, unsigned flags, struct hadb_error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return hadb_fail_errno(err, errno, "open %s", path);
    }
    bool is_device = S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode);
    bool fine =
        S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || (is_device && !(flags & HADB_FS_READ));
    return fine ? 0
                : hadb_fail(err, HADB_ECORRUPT, "%.180s is a %s and no file", path,
                            is_device ? "device" : "pipe");
}

static int host_open(void *self, const char *path, unsigned flags, struct hadb_fs_file **out,
                     struct hadb_error *err)
{
    int mode = flags & HADB_FS_WRITE ? (flags & HADB_FS_READ ? O_RDWR : O_WRONLY) : O_RDONLY;
    mode |= (flags & HADB_FS_CREATE ? O_CREAT : 0) | (flags & HADB_FS_EXCL ? O_EXCL : 0) |
            (flags & HADB_FS_TRUNC ? O_TRUNC : 0);
    struct host_file *file = hadb_calloc(1, sizeof *file);
    if (!file) {
        return hadb_fail_nomem(err);
    }
    do { /* O_NONBLOCK: a pipe in the place of a file must not hang us */
        file->fd =
            openat(start_of(self), path, mode | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, FILE_MODE);
    } while (file->fd < 0 && errno == EINTR);
    if (file->fd < 0) {
        int reason = errno;
        hadb_free(file);
        if (reason == ENOENT) {
            return HADB_ABSENT;
        }
        if (reason == EEXIST && (flags & HADB_FS_EXCL)) {
            return HADB_EXISTS;
        }
        return reason == ENXIO
                   ? hadb_fail(err, HADB_ECORRUPT, "%.180s is a socket or a pipe and no file", path)
                   : hadb_fail_errno(err, reason, "open %s", path);
    }
    int r = refuse_special(file->fd, path, flags, err);
    if (r) {
        close(file->fd);
        hadb_free(file);
        return r;
    }
    *out = (struct hadb_fs_file *)file;
    return 0;
}

static void registry_remove(struct host_file *file)
{
    pthread_mutex_lock(&registry_mu);
    for (struct host_file **at = &registry; *at; at = &(*at)->next) {
        if (*at == file) {
            *at = file->next;
            break;
        }
    }
    pthread_mutex_unlock(&registry_mu);
}

static void host_close(void *self, struct hadb_fs_file *handle)
{
    (void)self;
    struct host_file *file = (struct host_file *)handle;
    if (file->locked) {
        registry_remove(file);
    }
    close(file->fd); /* also drops the OFD lock; no retry on EINTR: Linux has closed it */
    hadb_free(file);
}

static int host_read_at(void *self, struct hadb_fs_file *handle, uint64_t offset, void *data,
                        size_t len, size_t *out_len, struct hadb_error *err)
{
    (void)self;
    struct host_file *file = (struct host_file *)handle;
    uint8_t *bytes = data;
    size_t done = 0;
    while (done < len) {
        ssize_t got = pread(file->fd, bytes + done, HADB_MIN(len - done, TRANSFER_BYTES_MAX),
                            (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return hadb_fail_errno(err, errno, "read %zu bytes at %llu", len,
                                   (unsigned long long)offset);
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
    }
    *out_len = done;
    return 0;
}

static int host_write_at(void *self, struct hadb_fs_file *handle, uint64_t offset, const void *data,
                         size_t len, struct hadb_error *err)
{
    (void)self;
    struct host_file *file = (struct host_file *)handle;
    const uint8_t *bytes = data;
    size_t done = 0;
    while (done < len) {
        ssize_t put = pwrite(file->fd, bytes + done, HADB_MIN(len - done, TRANSFER_BYTES_MAX),
                             (off_t)(offset + done));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return hadb_fail_errno(err, put < 0 ? errno : EIO, "write %zu bytes at %llu", len,
                                   (unsigned long long)offset);
        }
        done += (size_t)put;
    }
    return 0;
}

static int host_sync(void *self, struct hadb_fs_file *handle, struct hadb_error *err)
{
    (void)self;
    struct host_file *file = (struct host_file *)handle;
    int r;
    do {
        r = fdatasync(file->fd);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? hadb_fail_errno(err, errno, "fsync") : 0;
}

static int host_truncate(void *self, struct hadb_fs_file *handle, uint64_t size,
                         struct hadb_error *err)
{
    (void)self;
    struct host_file *file = (struct host_file *)handle;
    int r;
    do {
        r = ftruncate(file->fd, (off_t)size);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? hadb_fail_errno(err, errno, "truncate to %llu", (unsigned long long)size) : 0;
}

static int host_size(void *self, struct hadb_fs_file *handle, uint64_t *out, struct hadb_error *err)
{
    (void)self;
    struct host_file *file = (struct host_file *)handle;
    struct stat st;
    if (fstat(file->fd, &st) < 0) {
        return hadb_fail_errno(err, errno, "size");
    }
    *out = (uint64_t)st.st_size;
    return 0;
}

static int host_rename(void *self, const char *from, const char *to, struct hadb_error *err)
{
    return renameat(start_of(self), from, start_of(self), to) < 0
               ? hadb_fail_errno(err, errno, "rename %s to %s", from, to)
               : 0;
}

static int host_link(void *self, const char *from, const char *to, struct hadb_error *err)
{
    if (linkat(start_of(self), from, start_of(self), to, 0) == 0) {
        return 0;
    }
    return errno == EEXIST ? HADB_EXISTS : hadb_fail_errno(err, errno, "link %s to %s", from, to);
}

static int host_unlink(void *self, const char *path, struct hadb_error *err)
{
    if (unlinkat(start_of(self), path, 0) == 0) {
        return 0;
    }
    return errno == ENOENT ? HADB_ABSENT : hadb_fail_errno(err, errno, "remove %s", path);
}

static int host_mkdir(void *self, const char *path, struct hadb_error *err)
{
    if (mkdirat(start_of(self), path, FOLDER_MODE) == 0) {
        return 0;
    }
    int reason = errno;
    if (reason == ENOENT) {
        return HADB_ABSENT;
    }
    struct stat st;
    /* A folder that exists is fine, also below a read-only or unwritable parent. */
    if (fstatat(start_of(self), path, &st, 0) == 0) {
        if (S_ISDIR(st.st_mode)) {
            return 0;
        }
        reason = ENOTDIR;
    }
    return hadb_fail_errno(err, reason, "create folder %s", path);
}

static int host_rmdir(void *self, const char *path, struct hadb_error *err)
{
    if (unlinkat(start_of(self), path, AT_REMOVEDIR) == 0) {
        return 0;
    }
    return errno == ENOENT ? HADB_ABSENT : hadb_fail_errno(err, errno, "remove folder %s", path);
}

static int host_sync_dir(void *self, const char *path, struct hadb_error *err)
{
    int fd;
    do {
        fd = openat(start_of(self), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return hadb_fail_errno(err, errno, "open folder %s", path);
    }
    int r;
    do {
        r = fsync(fd);
    } while (r < 0 && errno == EINTR);
    int reason = r < 0 ? errno : 0;
    close(fd);
    /* EINVAL: this file system has no such thing (some FUSE and network ones). */
    return reason && reason != EINVAL ? hadb_fail_errno(err, reason, "fsync folder %s", path) : 0;
}

static bool entry_is_dir(DIR *dir, const struct dirent *entry)
{
    if (entry->d_type != DT_UNKNOWN) {
        return entry->d_type == DT_DIR;
    }
    struct stat st;
    return fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int host_list(void *self, const char *path,
                     int (*each)(void *arg, const char *name, bool is_dir), void *arg,
                     struct hadb_error *err)
{
    int fd = openat(start_of(self), path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int reason = errno;
        if (fd >= 0) {
            close(fd);
        }
        errno = reason;
        return errno == ENOENT ? HADB_ABSENT : hadb_fail_errno(err, errno, "open folder %s", path);
    }
    int r = 0;
    while (r == 0) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            r = errno ? hadb_fail_errno(err, errno, "read folder %s", path) : 0;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            r = each(arg, entry->d_name, entry_is_dir(dir, entry));
        }
    }
    closedir(dir);
    return r;
}

/* Enters @file, or says false when another handle of this process has the same file. */
static bool registry_add(struct host_file *file)
{
    bool taken = false;
    pthread_mutex_lock(&registry_mu);
    for (const struct host_file *other = registry; other; other = other->next) {
        taken |= other->dev == file->dev && other->ino == file->ino;
    }
    if (!taken) {
        file->next = registry;
        registry = file;
    }
    pthread_mutex_unlock(&registry_mu);
    return !taken;
}

static int host_lock(void *self, struct hadb_fs_file *handle, struct hadb_error *err)
{
    (void)self;
    struct host_file *file = (struct host_file *)handle;
    if (file->locked) {
        return 0;
    }
    struct stat st;
    if (fstat(file->fd, &st) < 0) {
        return hadb_fail_errno(err, errno, "lock");
    }
    file->dev = st.st_dev;
    file->ino = st.st_ino;
    /* The registry first: on file systems that turn OFD locks into POSIX ones (NFS) the kernel
     * would grant a second lock to the same process. */
    if (!registry_add(file)) {
        return hadb_fail(err, HADB_ELOCKED, "locked by this process already");
    }
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int r;
    do {
        r = fcntl(file->fd, F_OFD_SETLK, &lock);
    } while (r < 0 && errno == EINTR);
    if (r == 0) {
        file->locked = true;
        return 0;
    }
    int reason = errno;
    registry_remove(file);
    if (reason == EAGAIN || reason == EACCES) {
        return hadb_fail(err, HADB_ELOCKED, "locked by another process");
    }
    return hadb_fail_errno(err, reason, "lock");
}

/* Numbers of linux/magic.h and of file systems outside the kernel. overlayfs is as local as what lies below it. */
const char *hadb_fs_network_type(long type)
{
    static const struct {
        uint32_t type;
        const char *name;
    } rows[] = {
        {0x6969, "nfs"},        {0x517b, "smb"},        {0xfe534d42, "smb"},
        {0xff534d42, "cifs"},   {0x65735546, "fuse"},   {0x00c36400, "ceph"},
        {0x01021997, "9p"},     {0x5346414f, "afs"},    {0x6b414653, "afs"},
        {0x73757245, "coda"},   {0x7461636f, "ocfs2"},  {0x01161970, "gfs2"},
        {0x0bd00bd0, "lustre"}, {0x19830326, "beegfs"}, {0x47504653, "gpfs"},
        {0x786f4256, "vboxsf"},
    };
    for (size_t i = 0; i < HADB_LEN(rows); i++) {
        if (rows[i].type == (uint32_t)type) {
            return rows[i].name;
        }
    }
    return NULL;
}

static const char *host_network(void *self, const char *path)
{
    (void)self;
    char at[HADB_PATH_BYTES_MAX];
    struct statfs found;
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof at) {
        return NULL;
    }
    memcpy(at, path, len + 1);
    while (statfs(at, &found) < 0) {
        char *slash = strrchr(at, '/');
        if (!slash || slash == at) {
            return NULL;
        }
        *slash = '\0'; /* not made yet: where it will be */
    }
    return hadb_fs_network_type((long)found.f_type);
}

static int host_stat(void *self, const char *path, struct hadb_fs_stat *out, struct hadb_error *err)
{
    struct stat st;
    if (fstatat(start_of(self), path, &st, 0) < 0) {
        return errno == ENOENT ? HADB_ABSENT : hadb_fail_errno(err, errno, "look at %s", path);
    }
    *out = (struct hadb_fs_stat){.device = (uint64_t)st.st_dev,
                                 .inode = (uint64_t)st.st_ino,
                                 .links = (uint64_t)st.st_nlink};
    return 0;
}

static const struct hadb_fs_ops host_ops;

/* O_PATH: entering needs no right to list; it keeps the disk from being unmounted all the same. */
static int host_hold(void *self, const char *path, struct hadb_fs *out, struct hadb_error *err)
{
    struct host_folder *folder = hadb_calloc(1, sizeof *folder);
    if (!folder) {
        return hadb_fail_nomem(err);
    }
    folder->fd = openat(start_of(self), path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder->fd < 0) {
        int reason = errno;
        hadb_free(folder);
        return reason == ENOENT ? HADB_ABSENT
                                : hadb_fail_errno(err, reason, "open folder %s", path);
    }
    *out = (struct hadb_fs){.ops = &host_ops, .self = folder};
    return 0;
}

static void host_release(void *self)
{
    struct host_folder *folder = self;
    close(folder->fd);
    hadb_free(folder);
}

static const struct hadb_fs_ops host_ops = {
    .abi = HADB_FS_ABI,
    .open = host_open,
    .close = host_close,
    .read_at = host_read_at,
    .write_at = host_write_at,
    .sync = host_sync,
    .truncate = host_truncate,
    .size = host_size,
    .rename = host_rename,
    .link = host_link,
    .unlink = host_unlink,
    .mkdir = host_mkdir,
    .rmdir = host_rmdir,
    .sync_dir = host_sync_dir,
    .list = host_list,
    .lock = host_lock,
    .network = host_network,
    .stat = host_stat,
    .hold = host_hold,
    .release = host_release,
};

struct hadb_fs hadb_fs_host(void)
{
    return (struct hadb_fs){.ops = &host_ops};
}
