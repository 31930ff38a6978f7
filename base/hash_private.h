/* SPDX-License-Identifier: Apache-2.0 */
/* The two implementations of CRC-32C, apart, so that a test can compare them on every machine. */
#ifndef HADB_BASE_HASH_PRIVATE_H
#define HADB_BASE_HASH_PRIVATE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint32_t hadb__crc32c_table(uint32_t crc, const void *data, size_t len);
/* Only to be called when hadb__crc32c_hw_usable(). */
uint32_t hadb__crc32c_hw(uint32_t crc, const void *data, size_t len);
bool hadb__crc32c_hw_usable(void);
#endif
