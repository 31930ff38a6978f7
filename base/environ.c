/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns reading the process environment, which the rest of the library may not touch.
 *
 * Thread: any, as long as the host program does not call setenv beside it (POSIX says so of getenv).
 * Invariants: an empty variable counts as absent, as users expect of "VAR= command".
 * Failure modes: none.
 */
#include "base/environ.h"

#include <stdlib.h>

const char *hadb_environ_get(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] != '\0' ? value : NULL;
}
