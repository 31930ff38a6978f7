/* SPDX-License-Identifier: Apache-2.0 */
/* Between rest_server.c, which owns the server, and rest_exchange.c. Any thread. */
#ifndef HADB_CLI_REST_PRIVATE_H
#define HADB_CLI_REST_PRIVATE_H
#include "cli/rest_server.h"

bool rest_server_is_ending(const struct rest_server *server);
/* Memory for bodies; false when all that there is has been taken. */
bool rest_server_take_room(struct rest_server *server, uint64_t bytes);
void rest_server_give_room(struct rest_server *server, uint64_t bytes);
#endif
