/* SPDX-License-Identifier: Apache-2.0 */
/* What every test may need: a private folder, failing allocations, a seeded generator, a free port. */
#ifndef HADB_TESTS_SUPPORT_H
#define HADB_TESTS_SUPPORT_H
#include "base/fs.h"

/* Makes a new empty folder below $TMPDIR or /tmp; aborts the test program when it cannot. */
void test_tmp_make(char out[HADB_PATH_BYTES_MAX]);
/* Removes it with all below it. */
void test_tmp_remove(const char *path);

/*
 * Failing allocations. Loop n = 1, 2, 3 … until test_alloc_hit() stays false:
 *     test_alloc_fail_at(n); r = operation(); hit = test_alloc_hit(); test_alloc_reset();
 */
void test_alloc_fail_at(uint64_t n); /* the n-th allocation from now fails, once; 0 = only count */
void test_alloc_arm(uint64_t n);     /* the same, later, when other threads may already allocate */
bool test_alloc_hit(void);           /* it did fail */
uint64_t test_alloc_count(void);     /* allocations since test_alloc_fail_at */
int64_t test_alloc_live(void);       /* blocks allocated minus freed since test_alloc_fail_at */
void test_alloc_reset(void);         /* back to the C library's allocator */

/* xoshiro256**: same seed, same numbers, on every machine. */
struct test_rng {
    uint64_t s[4];
    uint64_t seed;
};
/* HADB_TEST_SEED in the environment wins, then @seed, then (0) a random one. Printed to stderr. */
void test_rng_init(struct test_rng *rng, uint64_t seed);
/* As given, nothing printed. */
void test_rng_seed(struct test_rng *rng, uint64_t seed);
uint64_t test_rng_next(struct test_rng *rng);
uint64_t test_rng_below(struct test_rng *rng, uint64_t bound); /* 0..bound-1; bound >= 1 */
bool test_rng_chance(struct test_rng *rng, unsigned percent);
void test_rng_fill(struct test_rng *rng, void *out, size_t len);

/* A TCP port of 127.0.0.1 that nobody listened on a moment ago. Prefer port 0 where you can. */
uint16_t test_port_free(void);

/*
 * A file system that counts, and fails where told, in front of any other. Set the fields, then use
 * test_faultfs(). Safe from any thread.
 */
enum test_fs_op {
    TEST_FS_OPEN,
    TEST_FS_READ,
    TEST_FS_WRITE,
    TEST_FS_SYNC,
    TEST_FS_TRUNCATE,
    TEST_FS_SIZE,
    TEST_FS_RENAME,
    TEST_FS_LINK,
    TEST_FS_UNLINK,
    TEST_FS_MKDIR,
    TEST_FS_RMDIR,
    TEST_FS_SYNC_DIR,
    TEST_FS_LIST,
    TEST_FS_LOCK,
    TEST_FS_OPS
};
struct test_faultfs {
    struct hadb_fs inner; /* zero = host */
    unsigned mask;        /* which operations count towards fail_at: bits 1u << op; 0 = all */
    uint64_t fail_at;     /* the n-th of them fails (1 = the first); 0 = none */
    bool sticky;          /* and so do all after it, as after a crash */
    bool torn;            /* a failing write first writes the first half of its bytes */
    int sys_errno;        /* 0 = EIO; ENOSPC … */
    const char *network;  /* what all paths are said to lie on; NULL = ask inner */
    uint64_t count;       /* operations in mask so far */
    uint64_t per_op[TEST_FS_OPS]; /* all operations so far, by kind */
    bool hit;                     /* something has failed because of fail_at */
};
struct hadb_fs test_faultfs(struct test_faultfs *faultfs);
#endif
