/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target without libFuzzer: over each file of the given corpus folders, then over
 * a bounded, always equal number of damaged copies of it (cut off, one bit flipped, bytes set to the edges).
 *
 * Thread: one. Failure modes: a target that aborts; exit 2 for a folder that cannot be read or is empty.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "fuzz/input.h"

#define FILE_BYTES_MAX (1u << 20)
#define DAMAGED_INPUTS_MAX 40000u /* of one folder, about; shared by its files */

struct run {
    const char *folder;
    size_t share; /* damaged copies of one file of each sort */
    size_t files;
    size_t inputs;
};

static void run_one(struct run *run, const uint8_t *data, size_t len)
{
    /* An exact allocation, so that a sanitizer sees reads behind the end. */
    uint8_t *copy = malloc(len ? len : 1);
    HADB_ASSERT(copy != NULL);
    memcpy(copy, data, len);
    HADB_ASSERT(LLVMFuzzerTestOneInput(copy, len) == 0);
    free(copy);
    run->inputs++;
}

static void run_damaged(struct run *run, struct hadb_buf *bytes)
{
    static const uint8_t edges[] = {0x00, 0x7f, 0x80, 0xff};
    size_t cut_step = bytes->len / run->share + 1;
    for (size_t len = 0; len < bytes->len; len += cut_step) {
        run_one(run, bytes->data, len);
    }
    size_t flip_step = bytes->len * 8 / run->share + 1;
    for (size_t bit = 0; bit < bytes->len * 8; bit += flip_step) {
        bytes->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        run_one(run, bytes->data, bytes->len);
        bytes->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t i = 0; i < bytes->len; i += cut_step) {
        uint8_t before = bytes->data[i];
        for (size_t e = 0; e < HADB_LEN(edges); e++) {
            bytes->data[i] = edges[e];
            run_one(run, bytes->data, bytes->len);
        }
        bytes->data[i] = before;
    }
}

static int count_file(void *arg, const char *name, bool is_dir)
{
    struct run *run = arg;
    (void)name;
    run->files += !is_dir;
    return 0;
}

static int run_file(void *arg, const char *name, bool is_dir)
{
    struct run *run = arg;
    struct hadb_fs fs = hadb_fs_host();
    struct hadb_buf bytes = {0};
    char path[HADB_PATH_BYTES_MAX];
    struct hadb_error err = {0};
    if (is_dir) {
        return 0;
    }
    int r = hadb_path_join(path, run->folder, name, &err);
    r = r != 0 ? r : hadb_fs_read_file(&fs, path, FILE_BYTES_MAX, &bytes, &err);
    if (r != 0) {
        fprintf(stderr, "%s: %s\n", name, err.message);
        return r;
    }
    fprintf(stderr, "%s: %zu bytes\n", path, bytes.len); /* the last line names the culprit */
    run_one(run, bytes.data, bytes.len);
    run_damaged(run, &bytes);
    hadb_buf_deinit(&bytes);
    return 0;
}

int main(int argc, char **argv)
{
    struct hadb_fs fs = hadb_fs_host();
    if (argc < 2) {
        fprintf(stderr, "usage: %s CORPUS-FOLDER...\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        struct run run = {.folder = argv[i]};
        struct hadb_error err = {0};
        int r = hadb_fs_list(&fs, argv[i], count_file, &run, &err);
        if (r == 0 && run.files != 0) {
            run.share = DAMAGED_INPUTS_MAX / 6 / run.files + 1; /* cuts, flips, four edges */
            r = hadb_fs_list(&fs, argv[i], run_file, &run, &err);
        }
        if (r != 0 || run.files == 0) {
            fprintf(stderr, "%s: %s\n", argv[i], r < 0 ? err.message : "no corpus there");
            return 2;
        }
        printf("%s: %zu files, %zu inputs\n", argv[i], run.files, run.inputs);
    }
    return 0;
}
