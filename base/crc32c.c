/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC-32C (Castagnoli, reflected polynomial 0x82f63b78): the SSE 4.2 instruction where the processor
 * has it, eight tables elsewhere. Both give the same result for the same bytes.
 *
 * Thread: any; the tables are built once, on first use.
 */
#include <pthread.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/hash_private.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#define CRC_HW 1
#else
#define CRC_HW 0
#endif

#define CRC_POLYNOMIAL 0x82f63b78u

static uint32_t tables[8][256]; /* const after tables_once */
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void tables_build(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? CRC_POLYNOMIAL : 0);
        }
        tables[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        for (int i = 1; i < 8; i++) {
            uint32_t crc = tables[i - 1][byte];
            tables[i][byte] = crc >> 8 ^ tables[0][crc & 255];
        }
    }
}

uint32_t hadb__crc32c_table(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&tables_once, tables_build);
    const uint8_t *p = data;
    crc = ~crc;
    for (; len >= 8; len -= 8, p += 8) {
        uint32_t low = hadb_get_u32(p) ^ crc;
        uint32_t high = hadb_get_u32(p + 4);
        crc = tables[7][low & 255] ^ tables[6][low >> 8 & 255] ^ tables[5][low >> 16 & 255] ^
              tables[4][low >> 24] ^ tables[3][high & 255] ^ tables[2][high >> 8 & 255] ^
              tables[1][high >> 16 & 255] ^ tables[0][high >> 24];
    }
    for (; len > 0; len--, p++) {
        crc = crc >> 8 ^ tables[0][(crc ^ *p) & 255];
    }
    return ~crc;
}

#if CRC_HW
bool hadb__crc32c_hw_usable(void)
{
    return __builtin_cpu_supports("sse4.2") != 0;
}

__attribute__((target("sse4.2"))) uint32_t hadb__crc32c_hw(uint32_t crc, const void *data,
                                                           size_t len)
{
    const uint8_t *p = data;
    uint64_t wide = ~crc;
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        wide = _mm_crc32_u64(wide, word);
    }
    uint32_t narrow = (uint32_t)wide;
    for (; len > 0; len--, p++) {
        narrow = _mm_crc32_u8(narrow, *p);
    }
    return ~narrow;
}
#else
bool hadb__crc32c_hw_usable(void)
{
    return false;
}

uint32_t hadb__crc32c_hw(uint32_t crc, const void *data, size_t len)
{
    return hadb__crc32c_table(crc, data, len);
}
#endif

uint32_t hadb_crc32c(uint32_t crc, const void *data, size_t len)
{
    return hadb__crc32c_hw_usable() ? hadb__crc32c_hw(crc, data, len)
                                    : hadb__crc32c_table(crc, data, len);
}
