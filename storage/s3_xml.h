/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the few XML documents that S3 and STS answer with (expat). Strict: the root must be the one that was
 * asked for, no document type, bounded depth and text. Any thread; no state.
 */
#ifndef HADB_STORAGE_S3_XML_H
#define HADB_STORAGE_S3_XML_H
#include "hadb/error.h"

#define HADB_XML_DEPTH_MAX 8u
#define HADB_XML_PATH_BYTES_MAX 256u
#define HADB_XML_TEXT_BYTES_MAX 8192u /* of one element */

/* "Error": what a refusal says. Texts are cut to their room; missing ones are "". */
struct hadb__s3_error {
    char code[64];
    char message[160];
    char region[40];
    char endpoint[100];
};
/* 0, HADB_ECORRUPT (not such a document), HADB_ENOMEM. */
int hadb__s3_xml_error(struct hadb_slice xml, struct hadb__s3_error *out);

/* "ListBucketResult": calls @each for every object, in the order of the document, with its decoded name. */
struct hadb__s3_listing {
    /* 0 to go on; anything else ends the reading with that result. */
    int (*each)(void *arg, struct hadb_slice name, uint64_t size_bytes);
    void *arg;
    bool truncated; /* out */
};
/* 0, HADB_ECORRUPT (also: a name or size is missing or malformed), HADB_ENOMEM, what each returned. */
int hadb__s3_xml_list(struct hadb_slice xml, struct hadb__s3_listing *listing,
                      struct hadb_error *err);

/* "DeleteResult": how many keys were not deleted, and why the first was not. */
struct hadb__s3_undeleted {
    size_t len;
    char code[64];
    char name[160];
};
int hadb__s3_xml_delete(struct hadb_slice xml, struct hadb__s3_undeleted *out,
                        struct hadb_error *err);

/* "InitiateMultipartUploadResult": the id of the upload. 0, HADB_ECORRUPT (also: empty, or does not fit), HADB_ENOMEM. */
int hadb__s3_xml_initiate(struct hadb_slice xml, char *out, size_t size);
/* "CompleteMultipartUploadResult": the tag of the object. Results as above. */
int hadb__s3_xml_complete(struct hadb_slice xml, char *out, size_t size);

/* "ListMultipartUploadsResult": calls @each for every upload with its decoded name. Results as of xml_list. */
struct hadb__s3_uploads {
    int (*each)(void *arg, const char *name, const char *id, const char *initiated);
    void *arg;
};
int hadb__s3_xml_uploads(struct hadb_slice xml, const struct hadb__s3_uploads *uploads);

/* "AssumeRoleWithWebIdentityResponse": temporary credentials. */
struct hadb__s3_xml_creds {
    char key_id[160];
    char secret[160];
    struct hadb_buf token; /* NUL-terminated */
    char expiration[40];
};
int hadb__s3_xml_sts(struct hadb_slice xml, struct hadb__s3_xml_creds *out, struct hadb_error *err);
#endif
