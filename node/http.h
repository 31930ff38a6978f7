/* SPDX-License-Identifier: Apache-2.0 */
/* What HTTP server and client share. */
#ifndef HADB_NODE_HTTP_H
#define HADB_NODE_HTTP_H
#include "hadb/error.h"

struct hadb_http_header {
    const char *name;
    const char *value;
};
#endif
