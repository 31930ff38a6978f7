/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what the doctor says about a check that failed: what it means for data, and what to change.
 *
 * Thread: any; const tables. Invariant: every check that can fail has words.
 */
#include "base/util.h"
#include "node/doctor.h"

#define OTHER_STORE \
    "use a store with atomic conditional writes (AWS S3, MinIO of 2025 and newer, a local folder)"
#define NO_CACHE                                                                                  \
    "take caches and proxies between nodes and store away; of several endpoints use one that is " \
    "consistent after a write"

static const struct hadb__doctor_words storage_words[HADB_PROBE_LEN] = {
    [HADB_PROBE_RACE] = {"two nodes can both believe that they lead, and acknowledged writes are "
                         "lost: no node leads on this store",
                         OTHER_STORE},
    [HADB_PROBE_EXISTS] = {"log entries can be overwritten, and acknowledged writes are lost: no "
                           "node leads on this store",
                           "the store, or a proxy before it, ignores If-None-Match: " OTHER_STORE},
    [HADB_PROBE_STALE_TAG] = {"a manifest can be set back, and what it protects be deleted: no "
                              "node leads on this store",
                              "the store, or a proxy before it, ignores If-Match: " OTHER_STORE},
    [HADB_PROBE_REPLACE_RACE] = {"two nodes can overwrite each other's manifest, and needed "
                                 "objects be deleted: no node leads on this store",
                                 OTHER_STORE},
    [HADB_PROBE_ABSENT_TAG] =
        {"a database that was removed can come back half: no node leads on "
         "this store",
         "If-Match must fail on an absent key: update the server; " OTHER_STORE},
    [HADB_PROBE_READ_AFTER] = {"a new leader can miss acknowledged writes that it does not see "
                               "yet: no node leads on this store",
                               NO_CACHE},
    [HADB_PROBE_ABSENT_FIRST] = {"a new leader can miss acknowledged writes whose keys it once "
                                 "found absent: no node leads on this store",
                                 NO_CACHE},
    [HADB_PROBE_LARGE] = {"large objects come back damaged, so that snapshots and blobs cannot be "
                          "read: no node leads on this store",
                          "look for a proxy that changes or cuts bodies; check the server's disks"},
    [HADB_PROBE_DELETE] = {"", "allow s3:DeleteObject: else what is no longer needed stays, and "
                               "costs room"},
};

#define LEASE_TIME "costs time, never an acknowledged write: "

static const struct hadb__doctor_words lease_words[HADB_LEASE_PROBE_LEN] = {
    [HADB_LEASE_PROBE_RACE] = {LEASE_TIME "two nodes of one name can both take its record",
                               "use one server, or one whose writes are atomic"},
    [HADB_LEASE_PROBE_EXISTS] = {LEASE_TIME "a node can overwrite the record of another one",
                                 "the server ignores the condition of a write: use another one"},
    [HADB_LEASE_PROBE_STALE_TAG] = {LEASE_TIME
                                    "an old process can overwrite the record of a new one",
                                    "the server ignores the condition of a write: use another one"},
    [HADB_LEASE_PROBE_FRESH_TAG] = {LEASE_TIME "a silent node can look alive",
                                    "the server gives old versions out again: use another one"},
    [HADB_LEASE_PROBE_REPLACE_RACE] = {LEASE_TIME "two processes can both renew one record",
                                       "use one server, or one whose writes are atomic"},
    [HADB_LEASE_PROBE_ABSENT_TAG] =
        {LEASE_TIME "a record that was removed can come back",
         "the server ignores the condition of a write: use another one"},
    [HADB_LEASE_PROBE_READ_AFTER] =
        {LEASE_TIME "a living node can look silent, and be replaced",
         "read from the server that is written to: no replica, no cache"},
};

const struct hadb__doctor_words *hadb__doctor_storage_words(enum hadb_probe_check check)
{
    HADB_ASSERT(check < HADB_PROBE_LEN);
    return &storage_words[check];
}

const struct hadb__doctor_words *hadb__doctor_lease_words(enum hadb_lease_probe_check check)
{
    HADB_ASSERT(check < HADB_LEASE_PROBE_LEN);
    return &lease_words[check];
}
