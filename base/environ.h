/* SPDX-License-Identifier: Apache-2.0 */
/* Variables of the process environment: the only door to them for the library. Any thread. */
#ifndef HADB_BASE_ENVIRON_H
#define HADB_BASE_ENVIRON_H

/* The value, NULL when absent or empty. Borrowed: valid until somebody calls setenv. */
const char *hadb_environ_get(const char *name);
#endif
