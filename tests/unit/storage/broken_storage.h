/* SPDX-License-Identifier: Apache-2.0 */
/* Backends that break one promise each, over a mem store: what the conformance probe must find. */
#ifndef HADB_TESTS_BROKEN_STORAGE_H
#define HADB_TESTS_BROKEN_STORAGE_H
#include "hadb/storage.h"

enum broken_kind {
    BROKEN_NOTHING,
    BROKEN_CREATE_CHECKS_THEN_ACTS, /* two racers may both find the key free */
    BROKEN_CREATE_OVERWRITES,       /* the create condition is ignored, the new bytes win */
    BROKEN_CREATE_LIES,             /* says 0 for a taken key, keeps the old bytes */
    BROKEN_REPLACE_IGNORES_TAG,
    BROKEN_REPLACE_CHECKS_THEN_ACTS,
    BROKEN_REPLACE_CREATES,   /* replaces what is not there */
    BROKEN_REPLACE_KEEPS_TAG, /* the tag does not change with the bytes */
    BROKEN_STALE_ABSENT,      /* a key that was once absent stays absent for a few reads */
    BROKEN_LATE_VISIBLE,      /* new objects are absent for the first read */
    BROKEN_TRUNCATES,         /* large bodies come back one byte short */
    BROKEN_FLIPS,             /* large bodies come back with one bit flipped */
    BROKEN_RANGE,             /* ranges come from the start of the object */
    BROKEN_HEAD,              /* head tells a wrong size */
    BROKEN_NO_REPLACE,        /* caps: no compare-and-swap */
    /* Not broken by the contract: */
    BROKEN_LOSES_REPLIES, /* every third create is applied, but its reply is lost */
    BROKEN_KEEPS,         /* deleting is not allowed */
    BROKEN_REFUSES,       /* every request fails with HADB_EAUTH */
    BROKEN_KINDS,
};

/* A new store of that kind; closing it frees it. Aborts when out of memory. */
struct hadb_storage broken_storage(enum broken_kind kind);
#endif
