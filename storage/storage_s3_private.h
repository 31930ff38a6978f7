/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of one open "s3://" store share: storage_s3.c, storage_s3_submit.c, storage_s3_upload.c. */
#ifndef HADB_STORAGE_S3_PRIVATE_STORE_H
#define HADB_STORAGE_S3_PRIVATE_STORE_H
#include "base/thread.h"
#include "storage/http_engine.h"
#include "storage/http_io.h"
#include "storage/s3_private.h"

#define HADB_S3_WHOLE_BYTES_MAX (16u << 20) /* a create of more goes in parts */
#define HADB_S3_PART_BYTES_MAX (16u << 20)
#define HADB_S3_PARTS_RUNNING_MAX 4u
#define HADB_S3_ENGINES_KEPT_MAX 4u    /* for uploads, with their connections */
#define HADB_S3_STALE_UPLOAD_S 86400   /* older ones are ended */
#define HADB_S3_STALE_UPLOADS_MAX 100u /* so many when a store is used first */

struct hadb__s3 {
    const struct hadb_env *env;
    struct hadb__s3_config config; /* const after init */
    struct hadb__http *http;
    struct hadb__s3_provider *provider;
    struct hadb__engine *engine;     /* thread of submit and drive */
    int64_t clock_offset_s;          /* atomic; server's clock minus ours */
    struct hadb_storage_usage usage; /* atomic */
    struct hadb_mutex mu;
    struct hadb__engine *engines[HADB_S3_ENGINES_KEPT_MAX]; /* mu */
    size_t engines_len;                                     /* mu */
    bool swept;                                             /* mu: stale uploads were looked for */
};

/* storage_s3.c */
int64_t hadb__s3_now(const struct hadb__s3 *s); /* in seconds, by the server's clock */
struct hadb__http_request hadb__s3_http_request(const struct hadb__s3 *s,
                                                const struct hadb__s3_request *q);
void hadb__s3_count(struct hadb__s3 *s, const struct hadb__s3_request *q,
                    const struct hadb__http_reply *reply);
void hadb__s3_learn_clock(struct hadb__s3 *s, int64_t signed_at_s, int64_t server_s);
int hadb__s3_may_start(struct hadb__s3 *s, const struct hadb_call *call, enum hadb_storage_op op,
                       struct hadb_error *err);
/* One attempt, and another after a refusal that a fresh signature can mend. Blocks. */
int hadb__s3_perform(struct hadb__s3 *s, const struct hadb_call *call, struct hadb__s3_request *q,
                     struct hadb__http_reply *reply, struct hadb_error *err);
int hadb__s3_io_build(const struct hadb__s3_config *config, const struct hadb_storage_io *io,
                      struct hadb__s3_request *out, struct hadb_error *err);

/* storage_s3_submit.c */
int hadb__s3_submit(void *self, struct hadb_storage_io *io, struct hadb_error *err);
int hadb__s3_fd(void *self);
size_t hadb__s3_drive(void *self);

/* storage_s3_upload.c: a create in parts. Blocks. */
int hadb__s3_upload(struct hadb__s3 *s, const struct hadb_storage_io *io, struct hadb_error *err);
void hadb__s3_uploads_deinit(struct hadb__s3 *s);
#endif
