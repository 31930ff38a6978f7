/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8, the short cut: frames of the stream as bytes; see stream.h for the table.
 *
 * Thread: any; pure.
 * Invariants: a frame is used only when it is there whole and its length is the one of its type; what decodes
 * encodes to the same bytes.
 * Happy path: hadb__frame_next() until HADB_ABSENT, then wait for more bytes.
 * Failure modes: HADB_EPROTO: not a stream of this protocol; the link is closed, storage has everything.
 */
#include "node/stream.h"

#include "base/buf.h"
#include "base/error.h"

/* Bytes behind the type that a frame of @type has before its entry; 0 with *known false for an unknown one. */
static size_t fixed_bytes(unsigned type, bool *known)
{
    static const uint8_t bytes[] = {
        [HADB_FRAME_HELLO] = 32, [HADB_FRAME_ENTRY] = 16, [HADB_FRAME_MARK] = 32,
        [HADB_FRAME_BEAT] = 0,   [HADB_FRAME_POKE] = 16,  [HADB_FRAME_FREE] = 17};
    *known = type >= HADB_FRAME_HELLO && type < HADB_LEN(bytes);
    return *known ? bytes[type] : 0;
}

size_t hadb__frame_put(const struct hadb_frame *frame, uint8_t out[HADB_STREAM_FIXED_BYTES_MAX])
{
    bool known;
    size_t fixed = fixed_bytes(frame->type, &known);
    uint8_t *body = out + HADB_STREAM_HEAD_BYTES;
    HADB_ASSERT(known && HADB_STREAM_HEAD_BYTES + fixed <= HADB_STREAM_FIXED_BYTES_MAX);
    HADB_ASSERT(frame->type == HADB_FRAME_ENTRY || frame->entry.len == 0);
    HADB_ASSERT(frame->entry.len <= HADB_STREAM_ENTRY_BYTES_MAX);
    hadb_put_u32(out, (uint32_t)(1 + fixed + frame->entry.len));
    out[4] = (uint8_t)frame->type;
    if (frame->type == HADB_FRAME_HELLO) {
        memcpy(body, frame->owner.node.b, 16);
        memcpy(body + 16, frame->owner.incarnation.b, 16);
    } else if (fixed >= 16) {
        memcpy(body, frame->db.b, 16);
    }
    if (frame->type == HADB_FRAME_MARK) {
        hadb_put_u64(body + 16, frame->term);
        hadb_put_u64(body + 24, frame->slot);
    } else if (frame->type == HADB_FRAME_FREE) {
        body[16] = frame->given_up ? 1 : 0;
    }
    return HADB_STREAM_HEAD_BYTES + fixed;
}

static void take_fields(const uint8_t *body, size_t len, struct hadb_frame *out)
{
    if (out->type == HADB_FRAME_HELLO) {
        memcpy(out->owner.node.b, body, 16);
        memcpy(out->owner.incarnation.b, body + 16, 16);
    } else if (len >= 16) {
        memcpy(out->db.b, body, 16);
    }
    if (out->type == HADB_FRAME_MARK) {
        out->term = hadb_get_u64(body + 16);
        out->slot = hadb_get_u64(body + 24);
    } else if (out->type == HADB_FRAME_FREE) {
        out->given_up = body[16] == 1;
    } else if (out->type == HADB_FRAME_ENTRY) {
        out->entry = hadb_slice(body + 16, len - 16);
    }
}

int hadb__frame_next(struct hadb_slice *rest, struct hadb_frame *out)
{
    const uint8_t *p = rest->data;
    if (rest->len < HADB_STREAM_HEAD_BYTES) {
        return HADB_ABSENT;
    }
    size_t len = hadb_get_u32(p);
    bool known;
    size_t fixed = fixed_bytes(p[4], &known);
    bool entry = p[4] == HADB_FRAME_ENTRY;
    /* Judged at the head: nobody waits for the rest of what would be refused. */
    if (!known || len < 1 + fixed || (!entry && len != 1 + fixed) ||
        (entry && len > 1 + fixed + HADB_STREAM_ENTRY_BYTES_MAX)) {
        return HADB_EPROTO;
    }
    if (rest->len - 4 < len) {
        return HADB_ABSENT;
    }
    const uint8_t *body = p + HADB_STREAM_HEAD_BYTES;
    if (p[4] == HADB_FRAME_FREE && body[16] > 1) {
        return HADB_EPROTO;
    }
    *out = (struct hadb_frame){.type = (enum hadb_stream_frame)p[4]};
    take_fields(body, len - 1, out);
    *rest = hadb_slice(p + 4 + len, rest->len - 4 - len);
    return 0;
}
