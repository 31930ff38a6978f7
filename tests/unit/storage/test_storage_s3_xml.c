/* SPDX-License-Identifier: Apache-2.0 */
/* The XML that S3 and STS answer with: what is read, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "storage/s3_xml.h"
#include "tests/support/support.h"

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

static void error__fields_are_read_and_cut_to_their_room(void **state)
{
    (void)state;
    char xml[2048], longest[1000];
    struct hadb__s3_error got;
    memset(longest, 'm', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    snprintf(xml, sizeof(xml),
             HEAD "<Error><Code>No&lt;Such</Code><Message>%s</Message><Region>r</Region>"
                  "<Endpoint>e</Endpoint><Deeper><Code>other</Code></Deeper></Error>",
             longest);
    assert_int_equal(hadb__s3_xml_error(hadb_slice_str(xml), &got), 0);
    assert_string_equal(got.code, "No<Such");
    assert_int_equal(strlen(got.message), sizeof(got.message) - 1);
    assert_string_equal(got.region, "r");
    assert_string_equal(got.endpoint, "e");
}

static void malformed__document_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "<html><body>502</body></html>",
        "<Error><Code>x</Code>",
        "<Error></Error><Error></Error>",
        "<Error><Code>x</Error>",
        "{\"Code\": \"x\"}",
        "<!DOCTYPE Error [<!ENTITY a \"b\">]><Error><Code>&a;</Code></Error>",
        "<Error><Code>&undefined;</Code></Error>",
        "<Error><a><b><c><d><e><f><g><h></h></g></f></e></d></c></b></a></Error>",
        "<Error>\xff\xfe</Error>",
    };
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        struct hadb__s3_error got;
        assert_int_equal(hadb__s3_xml_error(hadb_slice_str(bad[i]), &got), HADB_ECORRUPT);
        assert_string_equal(got.code, "");
    }
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf huge = {0};
    struct hadb__s3_error got;
    assert_int_equal(hadb_buf_append_str(&huge, "<Error><Message>"), 0);
    for (size_t i = 0; i <= HADB_XML_TEXT_BYTES_MAX; i++) {
        assert_int_equal(hadb_buf_append_str(&huge, "m"), 0);
    }
    assert_int_equal(hadb_buf_append_str(&huge, "</Message></Error>"), 0);
    assert_int_equal(hadb__s3_xml_error(hadb_buf_slice(&huge), &got), HADB_ECORRUPT);
}

/* --- listings ----------------------------------------------------------------------------------- */

struct seen {
    char text[512];
    int stop_with;
};

static int note(void *arg, struct hadb_slice name, uint64_t size_bytes)
{
    struct seen *seen = arg;
    size_t len = strlen(seen->text);
    snprintf(seen->text + len, sizeof(seen->text) - len, "%.*s=%llu,", (int)name.len,
             (const char *)name.data, (unsigned long long)size_bytes);
    return seen->stop_with;
}

static int list(const char *xml, struct seen *seen, bool *truncated)
{
    struct hadb__s3_listing listing = {.each = note, .arg = seen};
    struct hadb_error err = {0};
    int r = hadb__s3_xml_list(hadb_slice_str(xml), &listing, &err);
    *truncated = listing.truncated;
    return r;
}

static void listing__gives_names_and_sizes_in_their_order(void **state)
{
    (void)state;
    struct seen seen = {0};
    bool truncated = false;
    assert_int_equal(
        list(HEAD "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                  "<Name>b</Name><IsTruncated>true</IsTruncated><Contents><Key>b&amp;%2F</Key>"
                  "<ETag>&quot;x&quot;</ETag><Size>7</Size><Owner><ID>Key</ID></Owner></Contents>\n"
                  "<Contents><Size>0</Size><Key>a</Key></Contents></ListBucketResult>",
             &seen, &truncated),
        0);
    assert_string_equal(seen.text, "b&%2F=7,a=0,");
    assert_true(truncated);
}

static void listing__decodes_names_wherever_the_encoding_is_told(void **state)
{
    (void)state;
    static const char *const xmls[] = {
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a%2Fb%20c+d</Key>"
        "<Size>1</Size></Contents><IsTruncated>false</IsTruncated></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a%2Fb%20c+d</Key><Size>1</Size></Contents>"
        "<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType></ListBucketResult>",
    };
    for (size_t i = 0; i < HADB_LEN(xmls); i++) {
        struct seen seen = {0};
        bool truncated = true;
        assert_int_equal(list(xmls[i], &seen, &truncated), 0);
        assert_string_equal(seen.text, "a/b c d=1,");
        assert_false(truncated);
    }
}

static void listing__that_is_not_whole_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "<ListBucketResult></ListBucketResult>", /* is there more? */
        "<ListBucketResult><IsTruncated>maybe</IsTruncated></ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Size>1</Size></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key></Key><Size>1</Size>"
        "</Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>-1</Size>"
        "</Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><EncodingType>rot13</EncodingType>"
        "</ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>"
        "<Contents><Key>a%zz</Key><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>1</Size>",
        "<ListAllMyBucketsResult/>",
    };
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        struct seen seen = {0};
        bool truncated;
        assert_int_equal(list(bad[i], &seen, &truncated), HADB_ECORRUPT);
    }
}

static void listing__ends_where_the_reader_wants(void **state)
{
    (void)state;
    struct seen seen = {.stop_with = HADB_ENOMEM};
    bool truncated;
    assert_int_equal(list("<ListBucketResult><IsTruncated>false</IsTruncated>"
                          "<Contents><Key>a</Key><Size>1</Size></Contents>"
                          "<Contents><Key>b</Key><Size>1</Size></Contents></ListBucketResult>",
                          &seen, &truncated),
                     HADB_ENOMEM);
    assert_string_equal(seen.text, "a=1,");
}

/* --- deletions and credentials ------------------------------------------------------------------ */

static void deletion__counts_errors_and_keeps_the_first(void **state)
{
    (void)state;
    struct hadb__s3_undeleted got;
    struct hadb_error err = {0};
    assert_int_equal(
        hadb__s3_xml_delete(
            hadb_slice_str(
                "<DeleteResult><Deleted><Key>x</Key></Deleted>"
                "<Error><Key>gone</Key><Code>NoSuchKey</Code></Error>"
                "<Error><Key>one</Key><Code>AccessDenied</Code></Error>"
                "<Error><Key>two</Key><Code>InternalError</Code></Error></DeleteResult>"),
            &got, &err),
        0);
    assert_int_equal(got.len, 2);
    assert_string_equal(got.code, "AccessDenied");
    assert_string_equal(got.name, "one");
}

#define STS_(inner)                                                                           \
    "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>" inner \
    "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"

static void sts__answer_gives_credentials(void **state)
{
    (void)state;
    struct hadb__s3_xml_creds got;
    struct hadb_error err = {0};
    assert_int_equal(
        hadb__s3_xml_sts(hadb_slice_str(STS_("<AccessKeyId>A</AccessKeyId><SecretAccessKey>S"
                                             "</SecretAccessKey><SessionToken>T</SessionToken>"
                                             "<Expiration>2026-01-01T00:00:00Z</Expiration>")),
                         &got, &err),
        0);
    assert_string_equal(got.key_id, "A");
    assert_string_equal(got.secret, "S");
    assert_string_equal((char *)got.token.data, "T");
    assert_string_equal(got.expiration, "2026-01-01T00:00:00Z");
    hadb_buf_deinit(&got.token);
    assert_int_equal(hadb__s3_xml_sts(hadb_slice_str(STS_("<AccessKeyId>A</AccessKeyId>"
                                                          "<SessionToken>T</SessionToken>")),
                                      &got, &err),
                     HADB_ECORRUPT);
}

static void out_of_memory__is_told_from_a_bad_document(void **state)
{
    (void)state;
    bool hit = true;
    for (uint64_t n = 1; hit && n < 300; n++) {
        struct seen seen = {0};
        bool truncated;
        test_alloc_fail_at(n);
        int r = list("<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a</Key>"
                     "<Size>1</Size></Contents><IsTruncated>false</IsTruncated></ListBucketResult>",
                     &seen, &truncated);
        hit = test_alloc_hit();
        assert_int_equal(test_alloc_live(), 0);
        test_alloc_reset();
        assert_int_equal(r, hit ? HADB_ENOMEM : 0);
    }
    assert_false(hit);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(error__fields_are_read_and_cut_to_their_room),
        cmocka_unit_test(malformed__document_is_refused),
        cmocka_unit_test(listing__gives_names_and_sizes_in_their_order),
        cmocka_unit_test(listing__decodes_names_wherever_the_encoding_is_told),
        cmocka_unit_test(listing__that_is_not_whole_is_refused),
        cmocka_unit_test(listing__ends_where_the_reader_wants),
        cmocka_unit_test(deletion__counts_errors_and_keeps_the_first),
        cmocka_unit_test(sts__answer_gives_credentials),
        cmocka_unit_test(out_of_memory__is_told_from_a_bad_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
