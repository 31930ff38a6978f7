/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a bucket with somebody else's client: lists all below a prefix and writes each object into a file.
 * Usage: libs3_reader HOST:PORT BUCKET PREFIX FOLDER    credentials in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
 *
 * Shares not one line with hadb: what our client wrote must be what another one finds. Plain HTTP and signature V2, for
 * loopback only (docs/decisions/0021). Exit 0: all of it was read, and each had the size that the list said.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <libs3.h>

#define OBJECTS_MAX 100000u
#define PATH_BYTES_MAX 4096u

struct object {
    char *key;
    uint64_t size;
};

struct listing {
    struct object *objects;
    size_t len;
    bool more;
};

struct reading {
    FILE *file;
    uint64_t bytes;
};

static S3Status status;
static char detail[256];

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "libs3_reader: %s: %s\n", what, why);
    exit(1);
}

static S3Status on_properties(const S3ResponseProperties *properties, void *arg)
{
    (void)properties;
    (void)arg;
    return S3StatusOK;
}

static void on_complete(S3Status result, const S3ErrorDetails *error, void *arg)
{
    (void)arg;
    status = result;
    snprintf(detail, sizeof detail, "%s %s", S3_get_status_name(result),
             error && error->message ? error->message : "");
}

static S3Status on_list(int truncated, const char *next, int len,
                        const S3ListBucketContent *contents, int prefixes_len,
                        const char **prefixes, void *arg)
{
    struct listing *list = arg;
    (void)next;
    (void)prefixes_len;
    (void)prefixes;
    list->more = truncated != 0;
    for (int i = 0; i < len; i++) {
        if (list->len == OBJECTS_MAX) {
            return S3StatusAbortedByCallback;
        }
        struct object *object = &list->objects[list->len++];
        object->key = strdup(contents[i].key);
        object->size = contents[i].size;
        if (!object->key) {
            return S3StatusOutOfMemory;
        }
    }
    return S3StatusOK;
}

static void list_all(const S3BucketContext *bucket, const char *prefix, struct listing *list)
{
    static const S3ListBucketHandler handler = {{on_properties, on_complete}, on_list};
    do {
        size_t before = list->len;
        const char *marker = before ? list->objects[before - 1].key : NULL;
        S3_list_bucket(bucket, prefix, marker, NULL, 1000, NULL, &handler, list);
        if (status != S3StatusOK) {
            die("list", detail);
        }
        if (list->more && list->len == before) {
            die("list", "a page without keys says that there are more");
        }
    } while (list->more);
}

static S3Status on_data(int len, const char *data, void *arg)
{
    struct reading *reading = arg;
    reading->bytes += (uint64_t)len;
    return fwrite(data, 1, (size_t)len, reading->file) == (size_t)len ? S3StatusOK
                                                                      : S3StatusAbortedByCallback;
}

/* FOLDER/rest-of-the-key, with the folders on the way. */
static FILE *file_for(const char *folder, const char *rest)
{
    char path[PATH_BYTES_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, rest) >= sizeof path) {
        die(rest, "too long");
    }
    for (char *slash = strchr(path + strlen(folder) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            die(path, strerror(errno));
        }
        *slash = '/';
    }
    FILE *file = fopen(path, "wbx");
    if (!file) {
        die(path, strerror(errno));
    }
    return file;
}

static uint64_t read_one(const S3BucketContext *bucket, const struct object *object, FILE *file)
{
    static const S3GetObjectHandler handler = {{on_properties, on_complete}, on_data};
    static const S3GetConditions always = {-1, -1, NULL, NULL};
    struct reading reading = {.file = file};
    S3_get_object(bucket, object->key, &always, 0, 0, NULL, &handler, &reading);
    if (status != S3StatusOK) {
        die(object->key, detail);
    }
    if (fclose(file) != 0) {
        die(object->key, strerror(errno));
    }
    if (reading.bytes != object->size) {
        die(object->key, "has another size than the list says");
    }
    return reading.bytes;
}

int main(int argc, char **argv)
{
    static struct object objects[OBJECTS_MAX];
    struct listing list = {.objects = objects};
    if (argc != 5) {
        fprintf(stderr, "usage: %s HOST:PORT BUCKET PREFIX FOLDER\n", argv[0]);
        return 2;
    }
    S3BucketContext bucket = {.hostName = argv[1],
                              .bucketName = argv[2],
                              .protocol = S3ProtocolHTTP,
                              .uriStyle = S3UriStylePath,
                              .accessKeyId = getenv("AWS_ACCESS_KEY_ID"),
                              .secretAccessKey = getenv("AWS_SECRET_ACCESS_KEY")};
    if (S3_initialize("hadb-libs3-reader", S3_INIT_ALL, argv[1]) != S3StatusOK) {
        die("start", "libs3 does not work here");
    }
    char prefix[PATH_BYTES_MAX];
    snprintf(prefix, sizeof prefix, "%s/", argv[3]);
    list_all(&bucket, prefix, &list);
    uint64_t bytes = 0;
    for (size_t i = 0; i < list.len; i++) {
        const char *rest = list.objects[i].key + strlen(prefix);
        bytes += read_one(&bucket, &list.objects[i], file_for(argv[4], rest));
        free(list.objects[i].key);
    }
    S3_deinitialize();
    printf("%zu objects, %" PRIu64 " bytes\n", list.len, bytes);
    return 0;
}
