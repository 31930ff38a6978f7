/* SPDX-License-Identifier: Apache-2.0 */
/* Private folders, failing allocations, random numbers and ports for tests. */
#include "tests/support/support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/url.h"

void test_tmp_make(char out[HADB_PATH_BYTES_MAX])
{
    const char *parent = getenv("TMPDIR");
    int len = snprintf(out, HADB_PATH_BYTES_MAX, "%s/hadb-test-XXXXXX",
                       parent && parent[0] ? parent : "/tmp");
    HADB_ASSERT(len > 0 && (size_t)len < HADB_PATH_BYTES_MAX);
    HADB_ASSERT(mkdtemp(out));
}

void test_tmp_remove(const char *path)
{
    struct hadb_error err = {0};
    if (hadb_fs_remove_all(NULL, path, &err) < 0) {
        fprintf(stderr, "cannot remove %s: %s\n", path, err.message);
        abort();
    }
}

/* Atomic (relaxed is enough, sequential is simplest): code under test may allocate on many threads. */
static _Atomic uint64_t alloc_count;
static _Atomic uint64_t alloc_fail_at;
static _Atomic int64_t alloc_live;
static atomic_bool alloc_hit;

static void *counting_realloc(void *arg, void *ptr, size_t size)
{
    (void)arg;
    if (size == 0) {
        alloc_live -= ptr != NULL;
        free(ptr);
        return NULL;
    }
    uint64_t n = atomic_fetch_add(&alloc_count, 1) + 1;
    if (n == alloc_fail_at) {
        alloc_hit = true;
        return NULL;
    }
    void *fresh = realloc(ptr, size);
    alloc_live += fresh && !ptr;
    return fresh;
}

void test_alloc_arm(uint64_t n)
{
    alloc_count = 0;
    alloc_live = 0;
    alloc_hit = false;
    alloc_fail_at = n;
}

void test_alloc_fail_at(uint64_t n)
{
    test_alloc_arm(n);
    hadb_allocator_set(&(struct hadb_allocator){.realloc = counting_realloc});
}

bool test_alloc_hit(void)
{
    return alloc_hit;
}

uint64_t test_alloc_count(void)
{
    return alloc_count;
}

int64_t test_alloc_live(void)
{
    return alloc_live;
}

void test_alloc_reset(void)
{
    hadb_allocator_set(NULL);
    alloc_fail_at = 0;
}

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void test_rng_seed(struct test_rng *rng, uint64_t seed)
{
    rng->seed = seed;
    for (size_t i = 0; i < HADB_LEN(rng->s); i++) {
        rng->s[i] = splitmix(&seed);
    }
}

void test_rng_init(struct test_rng *rng, uint64_t seed)
{
    const char *wanted = getenv("HADB_TEST_SEED");
    if (wanted && !hadb_parse_u64(wanted, 0, UINT64_MAX, &seed)) {
        fprintf(stderr, "HADB_TEST_SEED must be a decimal number\n");
        abort();
    }
    while (!wanted && seed == 0) {
        hadb_random(NULL, &seed, sizeof seed);
    }
    fprintf(stderr, "seed %llu (HADB_TEST_SEED repeats it)\n", (unsigned long long)seed);
    test_rng_seed(rng, seed);
}

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

uint64_t test_rng_next(struct test_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t test_rng_below(struct test_rng *rng, uint64_t bound)
{
    HADB_ASSERT(bound > 0);
    return test_rng_next(rng) % bound; /* the bias does not matter in a test */
}

bool test_rng_chance(struct test_rng *rng, unsigned percent)
{
    return test_rng_below(rng, 100) < percent;
}

void test_rng_fill(struct test_rng *rng, void *out, size_t len)
{
    uint8_t *bytes = out;
    while (len > 0) {
        uint64_t word = test_rng_next(rng);
        size_t part = HADB_MIN(len, sizeof word);
        memcpy(bytes, &word, part);
        bytes += part;
        len -= part;
    }
}

uint16_t test_port_free(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    HADB_ASSERT(fd >= 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int r = bind(fd, (struct sockaddr *)&at, size);
    HADB_ASSERT(r == 0);
    r = getsockname(fd, (struct sockaddr *)&at, &size);
    HADB_ASSERT(r == 0);
    close(fd);
    return ntohs(at.sin_port);
}
