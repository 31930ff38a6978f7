/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What S3, STS and the sources of credentials answer, and shared profile files. The first byte chooses the
 * reader: 'e' error, 'l' listing, 'd' deletion, 'i' begun upload, 'm' completed upload, 'u' uploads, 's' STS, 'j' JSON, 'c' credentials file, 'f' config file.
 */
#include "fuzz/input.h"
#include "storage/s3_creds_private.h"
#include "storage/s3_xml.h"

static int each(void *arg, struct hadb_slice name, uint64_t size_bytes)
{
    size_t *count = arg;
    HADB_ASSERT(name.data != NULL && size_bytes <= INT64_MAX);
    (*count)++;
    return 0;
}

static int each_upload(void *arg, const char *name, const char *id, const char *initiated)
{
    (void)arg;
    HADB_ASSERT(name[0] && id[0] && initiated);
    return 0;
}

static void try_xml(uint8_t choice, struct hadb_slice text)
{
    struct hadb_error err = {0};
    size_t count = 0;
    int r = 0;
    if (choice == 'e') {
        struct hadb__s3_error error;
        r = hadb__s3_xml_error(text, &error);
        HADB_ASSERT(memchr(error.code, '\0', sizeof(error.code)) != NULL);
        HADB_ASSERT(memchr(error.message, '\0', sizeof(error.message)) != NULL);
    } else if (choice == 'l') {
        struct hadb__s3_listing listing = {.each = each, .arg = &count};
        r = hadb__s3_xml_list(text, &listing, &err);
    } else if (choice == 'd') {
        struct hadb__s3_undeleted undeleted;
        r = hadb__s3_xml_delete(text, &undeleted, &err);
        HADB_ASSERT(memchr(undeleted.name, '\0', sizeof(undeleted.name)) != NULL);
    } else if (choice == 'i' || choice == 'm') {
        char one[32];
        r = choice == 'i' ? hadb__s3_xml_initiate(text, one, sizeof(one))
                          : hadb__s3_xml_complete(text, one, sizeof(one));
        HADB_ASSERT(r != 0 || (one[0] && memchr(one, '\0', sizeof(one))));
    } else if (choice == 'u') {
        struct hadb__s3_uploads uploads = {.each = each_upload};
        r = hadb__s3_xml_uploads(text, &uploads);
    } else {
        struct hadb__s3_xml_creds creds;
        r = hadb__s3_xml_sts(text, &creds, &err);
        HADB_ASSERT(r != 0 || (creds.key_id[0] && creds.token.len > 0));
        if (r == 0) {
            hadb_buf_deinit(&creds.token);
        }
    }
    HADB_ASSERT(r == 0 || r == HADB_ECORRUPT);
}

static void try_creds(uint8_t choice, struct hadb_slice text)
{
    struct hadb__s3_profile profile = {0};
    struct hadb__s3_creds *creds = NULL;
    struct hadb_error err = {0};
    if (choice == 'j') {
        int r = hadb__s3_creds_from_json(text, "fuzz", &creds, &err);
        HADB_ASSERT(r == 0 ? creds != NULL : r == HADB_EAUTH);
        hadb__s3_creds_unref(creds);
        return;
    }
    hadb__s3_profile_read(text, "default", choice == 'f', &profile);
    HADB_ASSERT(profile.key_id.len <= text.len && profile.token.len <= text.len);
    HADB_ASSERT(profile.found || (profile.key_id.len == 0 && profile.secret.len == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) {
        return 0;
    }
    struct hadb_slice text = hadb_slice(data + 1, len - 1);
    if (data[0] == 'j' || data[0] == 'c' || data[0] == 'f') {
        try_creds(data[0], text);
    } else {
        try_xml(data[0], text);
    }
    return 0;
}
