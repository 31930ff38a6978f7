/* SPDX-License-Identifier: Apache-2.0 */
/* The contract suite of engines: test_engine NAME runs it on the engine of that name. */
#include <stdio.h>

#include "tests/contract/engine/rig.h"

const char *rig_engine;

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test_engine kv|memory\n");
        return 2;
    }
    rig_engine = argv[1];
    int failed = suite_reading() + suite_history() + suite_ingest() + suite_limits();
    failed += suite_model() + suite_threads();
    return failed ? 1 : 0;
}
