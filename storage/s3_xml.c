/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns reading XML: one walk over the elements with their paths ("ListBucketResult/Contents/Key"), and one
 * handler for each kind of document.
 *
 * Thread: any; all state is on the caller's stack and in the parser.
 * Invariants: expat allocates through base/alloc.h; a document type (the door to entities) ends the reading;
 * a document counts only when it was read to its end.
 * Failure modes: HADB_ECORRUPT, HADB_ENOMEM.
 */
#include "storage/s3_xml.h"

#include <expat.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/url.h"

struct walk {
    XML_Parser parser;
    const char *root;
    char path[HADB_XML_PATH_BYTES_MAX];
    size_t lens[HADB_XML_DEPTH_MAX + 1]; /* of the path, by depth */
    unsigned depth;
    struct hadb_buf text;
    bool opened; /* the last tag opened an element: its text is its own */
    int result;  /* first failure */
    /* Called at the end of each element. @text is NUL-terminated; "" for one with children. */
    int (*on_end)(void *arg, const char *path, const char *text);
    void *arg;
};

static void stop(struct walk *w, int result)
{
    if (w->result == 0) {
        w->result = result;
        XML_StopParser(w->parser, XML_FALSE);
    }
}

static void XMLCALL on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    (void)attributes;
    struct walk *w = arg;
    size_t at = w->lens[w->depth], len = strlen(name);
    if (w->result) {
        return;
    }
    if (w->depth == HADB_XML_DEPTH_MAX || at + len + 2 > sizeof(w->path) ||
        (w->depth == 0 && strcmp(name, w->root) != 0)) {
        stop(w, HADB_ECORRUPT);
        return;
    }
    if (w->depth > 0) {
        w->path[at++] = '/';
    }
    memcpy(w->path + at, name, len + 1);
    w->lens[++w->depth] = at + len;
    hadb_buf_clear(&w->text);
    w->opened = true;
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
    (void)name;
    struct walk *w = arg;
    if (w->result) {
        return;
    }
    HADB_ASSERT(w->depth > 0);
    const char *text = w->opened ? hadb_buf_cstr(&w->text) : "";
    int r = text ? w->on_end(w->arg, w->path, text) : HADB_ENOMEM;
    if (r) {
        stop(w, r);
    }
    w->depth--;
    w->path[w->lens[w->depth]] = '\0';
    w->opened = false;
}

static void XMLCALL on_text(void *arg, const XML_Char *text, int len)
{
    struct walk *w = arg;
    if (w->result || !w->opened) {
        return;
    }
    if (w->text.len + (size_t)len > HADB_XML_TEXT_BYTES_MAX) {
        stop(w, HADB_ECORRUPT);
    } else if (hadb_buf_append(&w->text, text, (size_t)len)) {
        stop(w, HADB_ENOMEM);
    }
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *sysid,
                               const XML_Char *pubid, int has_internal_subset)
{
    (void)name, (void)sysid, (void)pubid, (void)has_internal_subset;
    stop(arg, HADB_ECORRUPT);
}

static int walk_run(struct walk *w, struct hadb_slice xml)
{
    static const XML_Memory_Handling_Suite memory = {hadb_malloc, hadb_realloc, hadb_free};
    const char *text = xml.data;
    while (xml.len > 0 && strchr(" \t\r\n", *text) && *text) { /* sent to keep a connection awake */
        text++;
        xml.len--;
    }
    if (xml.len == 0 || xml.len > INT32_MAX) {
        return HADB_ECORRUPT;
    }
    w->parser = XML_ParserCreate_MM("UTF-8", &memory, NULL);
    if (!w->parser) {
        return HADB_ENOMEM;
    }
    XML_SetUserData(w->parser, w);
    XML_SetElementHandler(w->parser, on_start, on_end);
    XML_SetCharacterDataHandler(w->parser, on_text);
    XML_SetStartDoctypeDeclHandler(w->parser, on_doctype);
    enum XML_Status status = XML_Parse(w->parser, text, (int)xml.len, XML_TRUE);
    if (w->result == 0 && status != XML_STATUS_OK) {
        w->result =
            XML_GetErrorCode(w->parser) == XML_ERROR_NO_MEMORY ? HADB_ENOMEM : HADB_ECORRUPT;
    }
    XML_ParserFree(w->parser);
    hadb_buf_deinit(&w->text);
    return w->result;
}

static void copy_cut(char *out, size_t size, const char *text)
{
    size_t len = HADB_MIN(strlen(text), size - 1);
    memcpy(out, text, len);
    out[len] = '\0';
}

/* --- Error -------------------------------------------------------------------------------------- */

static int error_end(void *arg, const char *path, const char *text)
{
    struct hadb__s3_error *out = arg;
    if (strcmp(path, "Error/Code") == 0) {
        copy_cut(out->code, sizeof(out->code), text);
    } else if (strcmp(path, "Error/Message") == 0) {
        copy_cut(out->message, sizeof(out->message), text);
    } else if (strcmp(path, "Error/Region") == 0) {
        copy_cut(out->region, sizeof(out->region), text);
    } else if (strcmp(path, "Error/Endpoint") == 0) {
        copy_cut(out->endpoint, sizeof(out->endpoint), text);
    }
    return 0;
}

int hadb__s3_xml_error(struct hadb_slice xml, struct hadb__s3_error *out)
{
    struct hadb__s3_error read = {0};
    struct walk w = {.root = "Error", .on_end = error_end, .arg = &read};
    int r = walk_run(&w, xml);
    *out = r ? (struct hadb__s3_error){0} : read;
    return r;
}

/* --- ListBucketResult --------------------------------------------------------------------------- */

struct list_reader {
    struct hadb__s3_listing *listing;
    bool encoded, encoding_seen, truncated_seen;
    struct hadb_buf name; /* of the object that is being read, as sent */
    bool name_seen, size_seen;
    uint64_t size_bytes;
};

static int object_end(struct list_reader *reader)
{
    if (!reader->name_seen || !reader->size_seen || reader->name.len == 0) {
        return HADB_ECORRUPT;
    }
    reader->name_seen = reader->size_seen = false;
    if (!reader->encoded) {
        return reader->listing->each(reader->listing->arg, hadb_buf_slice(&reader->name),
                                     reader->size_bytes);
    }
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf decoded = {0};
    if (hadb_buf_reserve(&decoded, reader->name.len)) {
        return HADB_ENOMEM;
    }
    for (size_t i = 0; i < reader->name.len; i++) { /* a form encoder writes a blank as '+' */
        reader->name.data[i] = reader->name.data[i] == '+' ? ' ' : reader->name.data[i];
    }
    if (!hadb_percent_decode((const char *)reader->name.data, reader->name.len, &decoded)) {
        return HADB_ECORRUPT;
    }
    return reader->listing->each(reader->listing->arg, hadb_buf_slice(&decoded),
                                 reader->size_bytes);
}

static int list_end(void *arg, const char *path, const char *text)
{
    static const char root[] = "ListBucketResult";
    struct list_reader *reader = arg;
    path += sizeof(root) - 1;
    if (strcmp(path, "/Contents/Key") == 0) {
        hadb_buf_clear(&reader->name);
        reader->name_seen = true;
        return hadb_buf_append_str(&reader->name, text);
    }
    if (strcmp(path, "/Contents/Size") == 0) {
        reader->size_seen = hadb_parse_u64(text, 0, INT64_MAX, &reader->size_bytes);
        return reader->size_seen ? 0 : HADB_ECORRUPT;
    }
    if (strcmp(path, "/Contents") == 0) {
        return object_end(reader);
    }
    if (strcmp(path, "/EncodingType") == 0) {
        reader->encoding_seen = true;
        return strcmp(text, "url") == 0 ? 0 : HADB_ECORRUPT;
    }
    if (strcmp(path, "/IsTruncated") == 0) {
        reader->truncated_seen = true;
        reader->listing->truncated = strcmp(text, "true") == 0;
        return reader->listing->truncated || strcmp(text, "false") == 0 ? 0 : HADB_ECORRUPT;
    }
    return 0;
}

/* Whether names are encoded stands in front of the objects on some servers and behind them on others. */
static int encoding_end(void *arg, const char *path, const char *text)
{
    (void)text;
    bool *encoded = arg;
    const char *below = strchr(path, '/'); /* the root is the one that was asked for */
    *encoded = *encoded || (below && strcmp(below, "/EncodingType") == 0);
    return 0;
}

int hadb__s3_xml_list(struct hadb_slice xml, struct hadb__s3_listing *listing,
                      struct hadb_error *err)
{
    struct list_reader reader = {.listing = listing};
    struct walk first = {
        .root = "ListBucketResult", .on_end = encoding_end, .arg = &reader.encoded};
    struct walk second = {.root = "ListBucketResult", .on_end = list_end, .arg = &reader};
    listing->truncated = false;
    int r = walk_run(&first, xml);
    r = r ? r : walk_run(&second, xml);
    hadb_buf_deinit(&reader.name);
    if (r == 0 && !reader.truncated_seen) {
        r = HADB_ECORRUPT;
    }
    return r < 0 ? hadb_fail(err, r, "the listing is not what S3 sends") : r;
}

/* --- DeleteResult ------------------------------------------------------------------------------- */

struct delete_reader {
    struct hadb__s3_undeleted *out;
    char code[64], name[160]; /* of the entry that is being read */
};

static int delete_end(void *arg, const char *path, const char *text)
{
    struct delete_reader *reader = arg;
    if (strcmp(path, "DeleteResult/Error/Code") == 0) {
        copy_cut(reader->code, sizeof(reader->code), text);
    } else if (strcmp(path, "DeleteResult/Error/Key") == 0) {
        copy_cut(reader->name, sizeof(reader->name), text);
    } else if (strcmp(path, "DeleteResult/Error") == 0) {
        if (strcmp(reader->code, "NoSuchKey") != 0 && reader->out->len++ == 0) {
            memcpy(reader->out->code, reader->code, sizeof(reader->code));
            memcpy(reader->out->name, reader->name, sizeof(reader->name));
        }
        reader->code[0] = reader->name[0] = '\0';
    }
    return 0;
}

int hadb__s3_xml_delete(struct hadb_slice xml, struct hadb__s3_undeleted *out,
                        struct hadb_error *err)
{
    *out = (struct hadb__s3_undeleted){0};
    struct delete_reader reader = {.out = out};
    struct walk w = {.root = "DeleteResult", .on_end = delete_end, .arg = &reader};
    int r = walk_run(&w, xml);
    return r ? hadb_fail(err, r, "the result of the deletion is not what S3 sends") : 0;
}

/* --- uploads in parts ---------------------------------------------------------------------------- */

/* One text of a document. */
struct one_text {
    const char *path;
    char *out;
    size_t size;
};

static int one_text_end(void *arg, const char *path, const char *text)
{
    struct one_text *one = arg;
    if (strcmp(path, one->path) == 0) {
        if (text[0] == '\0' || strlen(text) >= one->size) {
            return HADB_ECORRUPT;
        }
        copy_cut(one->out, one->size, text);
    }
    return 0;
}

static int read_one_text(struct hadb_slice xml, const char *root, struct one_text *one)
{
    struct walk w = {.root = root, .on_end = one_text_end, .arg = one};
    one->out[0] = '\0';
    int r = walk_run(&w, xml);
    return r == 0 && one->out[0] == '\0' ? HADB_ECORRUPT : r;
}

int hadb__s3_xml_initiate(struct hadb_slice xml, char *out, size_t size)
{
    struct one_text one = {"InitiateMultipartUploadResult/UploadId", out, size};
    return read_one_text(xml, "InitiateMultipartUploadResult", &one);
}

int hadb__s3_xml_complete(struct hadb_slice xml, char *out, size_t size)
{
    struct one_text one = {"CompleteMultipartUploadResult/ETag", out, size};
    return read_one_text(xml, "CompleteMultipartUploadResult", &one);
}

struct uploads_reader {
    const struct hadb__s3_uploads *uploads;
    bool encoded;
    char name[4096], id[1025], initiated[40];
};

static int upload_end(struct uploads_reader *reader)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf decoded = {0};
    const char *name = reader->name;
    if (reader->encoded) {
        if (hadb_buf_reserve(&decoded, sizeof(reader->name))) {
            return HADB_ENOMEM;
        }
        name = hadb_percent_decode(name, strlen(name), &decoded) ? hadb_buf_cstr(&decoded) : "";
    }
    return name && name[0] && reader->id[0]
               ? reader->uploads->each(reader->uploads->arg, name, reader->id, reader->initiated)
               : HADB_ECORRUPT;
}

static int uploads_end(void *arg, const char *path, const char *text)
{
    static const char root[] = "ListMultipartUploadsResult";
    struct uploads_reader *reader = arg;
    path += sizeof(root) - 1;
    if (strcmp(path, "/Upload/Key") == 0) {
        copy_cut(reader->name, sizeof(reader->name), text);
    } else if (strcmp(path, "/Upload/UploadId") == 0) {
        copy_cut(reader->id, sizeof(reader->id), text);
    } else if (strcmp(path, "/Upload/Initiated") == 0) {
        copy_cut(reader->initiated, sizeof(reader->initiated), text);
    } else if (strcmp(path, "/Upload") == 0) {
        int r = upload_end(reader);
        reader->name[0] = reader->id[0] = reader->initiated[0] = '\0';
        return r;
    }
    return 0;
}

int hadb__s3_xml_uploads(struct hadb_slice xml, const struct hadb__s3_uploads *uploads)
{
    struct uploads_reader reader = {.uploads = uploads};
    struct walk first = {
        .root = "ListMultipartUploadsResult", .on_end = encoding_end, .arg = &reader.encoded};
    struct walk second = {
        .root = "ListMultipartUploadsResult", .on_end = uploads_end, .arg = &reader};
    int r = walk_run(&first, xml);
    return r ? r : walk_run(&second, xml);
}

/* --- AssumeRoleWithWebIdentityResponse ---------------------------------------------------------- */

#define STS "AssumeRoleWithWebIdentityResponse"

static int sts_end(void *arg, const char *path, const char *text)
{
    static const char at[] = STS "/AssumeRoleWithWebIdentityResult/Credentials/";
    struct hadb__s3_xml_creds *out = arg;
    if (strncmp(path, at, sizeof(at) - 1) != 0) {
        return 0;
    }
    path += sizeof(at) - 1;
    if (strcmp(path, "AccessKeyId") == 0) {
        copy_cut(out->key_id, sizeof(out->key_id), text);
    } else if (strcmp(path, "SecretAccessKey") == 0) {
        copy_cut(out->secret, sizeof(out->secret), text);
    } else if (strcmp(path, "Expiration") == 0) {
        copy_cut(out->expiration, sizeof(out->expiration), text);
    } else if (strcmp(path, "SessionToken") == 0) {
        hadb_buf_clear(&out->token);
        int r = hadb_buf_append_str(&out->token, text);
        return r ? r : (hadb_buf_cstr(&out->token) ? 0 : HADB_ENOMEM);
    }
    return 0;
}

int hadb__s3_xml_sts(struct hadb_slice xml, struct hadb__s3_xml_creds *out, struct hadb_error *err)
{
    *out = (struct hadb__s3_xml_creds){0};
    struct walk w = {.root = STS, .on_end = sts_end, .arg = out};
    int r = walk_run(&w, xml);
    if (r == 0 && (!out->key_id[0] || !out->secret[0] || out->token.len == 0)) {
        r = HADB_ECORRUPT;
    }
    if (r) {
        hadb_buf_deinit(&out->token);
        return hadb_fail(err, r, "the answer of sts holds no credentials");
    }
    return 0;
}
