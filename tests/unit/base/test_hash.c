/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4 examples) and CRC-32C (RFC 3720 B.4), both paths of the latter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/hash_private.h"
#include "tests/support/support.h"

static void assert_sha256(const struct hadb_hash *hash, const char *hex)
{
    char text[65];
    hadb_hex_encode(hash->b, sizeof hash->b, text);
    assert_string_equal(text, hex);
}

static void sha256__gives_the_published_values(void **state)
{
    (void)state;
    struct hadb_hash hash;
    hadb_sha256(NULL, 0, &hash);
    assert_sha256(&hash, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hadb_sha256("abc", 3, &hash);
    assert_sha256(&hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    hadb_sha256(two_blocks, strlen(two_blocks), &hash);
    assert_sha256(&hash, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

/* RFC 4231, test cases 1, 2, 6 and 7; and an empty key. */
static void hmac__gives_the_published_values(void **state)
{
    (void)state;
    struct hadb_hash hash;
    uint8_t twenty[20], long_key[131];
    memset(twenty, 0x0b, sizeof twenty);
    memset(long_key, 0xaa, sizeof long_key);
    hadb_hmac_sha256(twenty, sizeof twenty, "Hi There", 8, &hash);
    assert_sha256(&hash, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    hadb_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, &hash);
    assert_sha256(&hash, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    static const char six[] = "Test Using Larger Than Block-Size Key - Hash Key First";
    hadb_hmac_sha256(long_key, sizeof long_key, six, sizeof six - 1, &hash);
    assert_sha256(&hash, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    static const char seven[] =
        "This is a test using a larger than block-size key and a larger than block-size data. The "
        "key needs to be hashed before being used by the HMAC algorithm.";
    hadb_hmac_sha256(long_key, sizeof long_key, seven, sizeof seven - 1, &hash);
    assert_sha256(&hash, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
    hadb_hmac_sha256(NULL, 0, NULL, 0, &hash);
    assert_sha256(&hash, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
    memcpy(hash.b, twenty, sizeof twenty);
    hadb_hmac_sha256(hash.b, sizeof twenty, "Hi There", 8, &hash);
    assert_sha256(&hash, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
}

static void sha256__a_million_a_in_pieces(void **state)
{
    (void)state;
    struct hadb_sha256_stream *s = hadb_sha256_new();
    assert_non_null(s);
    char block[1000];
    memset(block, 'a', sizeof block);
    /* Twice: final starts the stream again. */
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 1000; i++) {
            hadb_sha256_update(s, block, (size_t)i);
            hadb_sha256_update(s, block, sizeof block - (size_t)i);
        }
        struct hadb_hash hash;
        hadb_sha256_final(s, &hash);
        assert_sha256(&hash, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
    hadb_sha256_free(s);
    hadb_sha256_free(NULL);
}

static void sha256__new_answers_null_when_out_of_memory(void **state)
{
    (void)state;
    test_alloc_fail_at(1);
    struct hadb_sha256_stream *s = hadb_sha256_new();
    test_alloc_reset();
    assert_null(s);
}

typedef uint32_t (*crc_fn)(uint32_t crc, const void *data, size_t len);

static void check_crc_vectors(crc_fn crc)
{
    uint8_t zeroes[32] = {0}, ones[32], up[32], down[32];
    memset(ones, 0xff, sizeof ones);
    for (size_t i = 0; i < 32; i++) {
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    /* An iSCSI SCSI Read (10) command PDU. */
    static const uint8_t pdu[48] = {0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0,
                                    0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18,
                                    0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0, 0, 0,    0, 0, 0, 0};
    assert_true(crc(0, zeroes, 32) == 0x8a9136aau);
    assert_true(crc(0, ones, 32) == 0x62a8ab43u);
    assert_true(crc(0, up, 32) == 0x46dd794eu);
    assert_true(crc(0, down, 32) == 0x113fdb5cu);
    assert_true(crc(0, pdu, 48) == 0xd9963a56u);
    assert_true(crc(0, "123456789", 9) == 0xe3069283u);
    assert_true(crc(0, "", 0) == 0);
}

static void crc32c__table_path_gives_the_published_values(void **state)
{
    (void)state;
    check_crc_vectors(hadb__crc32c_table);
}

static void crc32c__hardware_path_gives_the_published_values(void **state)
{
    (void)state;
    if (!hadb__crc32c_hw_usable()) {
        skip();
    }
    check_crc_vectors(hadb__crc32c_hw);
}

static void crc32c__public_function_gives_the_published_values(void **state)
{
    (void)state;
    check_crc_vectors(hadb_crc32c);
}

static void crc32c__both_paths_agree_on_random_bytes_in_random_pieces(void **state)
{
    (void)state;
    if (!hadb__crc32c_hw_usable()) {
        skip();
    }
    struct test_rng rng;
    test_rng_init(&rng, 0);
    uint8_t bytes[700];
    for (int round = 0; round < 500; round++) {
        size_t start = test_rng_below(&rng, 9);
        size_t len = test_rng_below(&rng, sizeof bytes - start);
        size_t cut = test_rng_below(&rng, len + 1);
        test_rng_fill(&rng, bytes, sizeof bytes);
        uint32_t whole = hadb__crc32c_table(0, bytes + start, len);
        uint32_t pieces = hadb__crc32c_hw(0, bytes + start, cut);
        pieces = hadb__crc32c_hw(pieces, bytes + start + cut, len - cut);
        assert_true(whole == pieces);
    }
}

static void hash__equality_looks_at_every_byte(void **state)
{
    (void)state;
    struct hadb_hash a = {{0}}, b = {{0}};
    assert_true(hadb_hash_is_zero(&a));
    for (size_t i = 0; i < sizeof a.b; i++) {
        b.b[i] = 1;
        assert_false(hadb_hash_eq(&a, &b));
        assert_false(hadb_hash_is_zero(&b));
        b.b[i] = 0;
    }
    assert_true(hadb_hash_eq(&a, &b));
}

static void id__equality_looks_at_every_byte(void **state)
{
    (void)state;
    struct hadb_id a = {{0}}, b = {{0}};
    assert_true(hadb_id_is_zero(&a));
    for (size_t i = 0; i < sizeof a.b; i++) {
        b.b[i] = 1;
        assert_false(hadb_id_eq(&a, &b));
        assert_false(hadb_id_is_zero(&b));
        b.b[i] = 0;
    }
    assert_true(hadb_id_eq(&a, &b));
}

static void secret__equal_only_when_all_of_it_is(void **state)
{
    (void)state;
    assert_true(hadb_secret_eq("token", "token"));
    assert_true(hadb_secret_eq("", ""));
    assert_false(hadb_secret_eq("token", "tokem"));
    assert_false(hadb_secret_eq("token", "toke"));
    assert_false(hadb_secret_eq("", "token"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256__gives_the_published_values),
        cmocka_unit_test(hmac__gives_the_published_values),
        cmocka_unit_test(sha256__a_million_a_in_pieces),
        cmocka_unit_test(sha256__new_answers_null_when_out_of_memory),
        cmocka_unit_test(crc32c__table_path_gives_the_published_values),
        cmocka_unit_test(crc32c__hardware_path_gives_the_published_values),
        cmocka_unit_test(crc32c__public_function_gives_the_published_values),
        cmocka_unit_test(crc32c__both_paths_agree_on_random_bytes_in_random_pieces),
        cmocka_unit_test(hash__equality_looks_at_every_byte),
        cmocka_unit_test(id__equality_looks_at_every_byte),
        cmocka_unit_test(secret__equal_only_when_all_of_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
