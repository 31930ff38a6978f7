/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the contract suite share: a fresh store per test, and a few short hands. */
#ifndef HADB_TESTS_STORAGE_CONTRACT_H
#define HADB_TESTS_STORAGE_CONTRACT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "tests/contract/storage/storage_world.h"

struct fixture {
    struct storage_world *world;
    struct hadb_storage s;
    struct hadb_buf got;
    struct hadb_error err;
};

int contract_setup(void **state);
int contract_teardown(void **state);
/* hadb_storage_create of a text. */
int create(struct fixture *f, const char *key, const char *body);
/* The object is there, with exactly this text. */
void assert_holds(struct fixture *f, const char *key, const char *body);

#define assert_done(f, expr)                                                  \
    do {                                                                      \
        int r_ = (expr);                                                      \
        if (r_ != 0) {                                                        \
            fail_msg("%s: %d %s", #expr, r_, r_ < 0 ? (f)->err.message : ""); \
        }                                                                     \
    } while (0)

#define contract(test) cmocka_unit_test_setup_teardown(test, contract_setup, contract_teardown)

/* The tests with many callers (contract_races.c). Returns the number of failed ones. */
int contract_run_races(const char *spec);
#endif
