/* SPDX-License-Identifier: Apache-2.0 */
/* Talks to the scripted S3 server (tests/support/s3_server.py) of this test run. One thread. */
#ifndef HADB_TESTS_S3_CONTROL_H
#define HADB_TESTS_S3_CONTROL_H
#include <jansson.h>

#include "base/util.h"
#include "hadb/storage.h"

/* Sends a wish (JSON); the answer. Fails the test when the server does not take it. Free with json_decref. */
json_t *s3_control(const char *fmt, ...) HADB_PRINTF(1, 2);
/* As s3_control, the answer thrown away. */
void s3_tell(const char *fmt, ...) HADB_PRINTF(1, 2);
/* How many requests of a method (NULL: of any) the server has seen since the last reset. */
long long s3_requests(const char *method);
/* The origin of the server: http://127.0.0.1:PORT. */
const char *s3_origin(void);
/* A fresh handle with an empty prefix of its own; @more: further parameters, "&name=value…", or "". */
void s3_open(const char *more, const struct hadb_env *env, struct hadb_storage *out);
#endif
