/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An asynchronous path for a backend that has none: what is submitted runs on threads, through the backend's blocking
 * methods, and is reported by drive. For tests of whoever submits.
 */
#ifndef HADB_TESTS_ASYNC_STORAGE_H
#define HADB_TESTS_ASYNC_STORAGE_H
#include "hadb/storage.h"

/* *storage is taken over, and replaced. Any failure ends the program. */
void test_async_storage(struct hadb_storage *storage);
/* The same where the environment variable HADB_TEST_ASYNC is 1. */
void test_async_storage_if_asked(struct hadb_storage *storage);
unsigned test_async_storage_threads(void); /* that run now */
#endif
