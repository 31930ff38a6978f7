/* SPDX-License-Identifier: Apache-2.0 */
/* Hop 7 of 8, the short cut: any bytes as frames of a stream, arriving in one piece and byte by byte. Both give the
 * same frames; each frame encodes to the bytes that it was; and what is refused is refused at its head, before
 * anybody waits for more than a frame can have. */
#include "fuzz/input.h"
#include "node/stream.h"

#define FRAME_BYTES_MAX (HADB_STREAM_FIXED_BYTES_MAX + HADB_STREAM_ENTRY_BYTES_MAX)

static void check_frame(const struct hadb_frame *frame, struct hadb_slice bytes)
{
    uint8_t fixed[HADB_STREAM_FIXED_BYTES_MAX];
    size_t len = hadb__frame_put(frame, fixed);
    HADB_ASSERT(bytes.len == len + frame->entry.len && bytes.len <= FRAME_BYTES_MAX);
    HADB_ASSERT(memcmp(bytes.data, fixed, len) == 0);
    HADB_ASSERT(frame->entry.len == 0 ||
                frame->entry.data == (const uint8_t *)bytes.data + bytes.len - frame->entry.len);
}

/* How many frames, and how it ends. */
static size_t in_one_piece(struct hadb_slice rest, int *end)
{
    struct hadb_frame frame;
    size_t frames = 0;
    for (;;) {
        struct hadb_slice before = rest;
        *end = hadb__frame_next(&rest, &frame);
        if (*end != 0) {
            HADB_ASSERT(*end == HADB_ABSENT || *end == HADB_EPROTO);
            HADB_ASSERT(rest.data == before.data && rest.len == before.len);
            HADB_ASSERT(*end == HADB_EPROTO || rest.len < FRAME_BYTES_MAX);
            return frames;
        }
        check_frame(&frame, hadb_slice(before.data, before.len - rest.len));
        frames++;
    }
}

static size_t byte_by_byte(struct hadb_slice all, int *end)
{
    const uint8_t *p = all.data;
    struct hadb_frame frame;
    size_t from = 0, frames = 0;
    *end = HADB_ABSENT;
    for (size_t to = 1; to <= all.len; to++) {
        struct hadb_slice rest = hadb_slice(p + from, to - from);
        *end = hadb__frame_next(&rest, &frame);
        if (*end < 0) {
            return frames;
        }
        if (*end == 0) {
            HADB_ASSERT(rest.len == 0);
            frames++;
            from = to;
            *end = HADB_ABSENT;
        }
    }
    return frames;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    int end = 0, slow_end = 0;
    size_t frames = in_one_piece(hadb_slice(data, len), &end);
    HADB_ASSERT(byte_by_byte(hadb_slice(data, len), &slow_end) == frames && slow_end == end);
    return 0;
}
