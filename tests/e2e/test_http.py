#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The HTTP side of real nodes: every method, header, condition, limit and status."""
import json
import os
import signal
import threading
import time
import urllib.parse

from e2e import Client, ClusterTest, HADB, Node, main, raw, request_id, wait_for

KEY_MAX = 64 << 10
VALUE_MAX = 64 << 20


class Keys(ClusterTest):
    def test_a_value_comes_back_byte_for_byte_from_every_node(self):
        value = bytes(range(256)) * 4
        written = self.put("bytes", value)
        self.assertRegex(written.version, r"^\d+\.\d+$")
        self.assertTrue(written.bookmark)
        self.assertTrue(written.header("Hadb-Request-Id"))
        for node in self.cluster.nodes:
            reply = self.get("bytes", node.client)
            self.assertEqual((reply.status, reply.body, reply.version), (200, value, written.version))
            self.assertTrue(reply.bookmark)

    def test_every_node_takes_writes(self):
        for node in self.cluster.nodes:
            self.put(f"through-{node.name}", node.name.encode(), client=node.client)
        for node in self.cluster.nodes:
            for other in self.cluster.nodes:
                self.assertEqual(self.get(f"through-{other.name}", node.client).body, other.name.encode())

    def test_an_absent_key_is_404_and_its_deletion_is_200(self):
        for node in self.cluster.nodes:
            self.refused(self.get("nothing", node.client), 404, "ABSENT")
            self.assertEqual(node.client.kv("DELETE", "app", "nothing").status, 200)

    def test_a_deleted_key_is_gone_everywhere(self):
        self.put("short-lived", b"x")
        reply = self.followers()[0].client.kv("DELETE", "app", "short-lived")
        self.assertEqual(reply.status, 200)
        for node in self.cluster.nodes:
            self.assertEqual(self.get("short-lived", node.client).status, 404)

    def test_an_empty_value_is_a_value(self):
        self.put("empty", b"")
        reply = self.get("empty", self.followers()[0].client)
        self.assertEqual((reply.status, reply.body), (200, b""))

    def test_head_answers_without_a_body(self):
        self.put("head", b"12345")
        reply = self.client.kv("HEAD", "app", "head")
        self.assertEqual((reply.status, reply.body, reply.header("Content-Length")), (200, b"", "5"))

    def test_keys_are_any_bytes(self):
        for key in (bytes(range(256)), b"\0", b"/", b"a/b//c/../d", b"%41", b"?x=y", b"\xff\xfe", b" ",
                    "ключ".encode()):
            self.put(key, key)
            reply = self.get(key, self.followers()[0].client)
            self.assertEqual((reply.status, reply.body), (200, key), key)
        self.assertEqual(self.get(b"A").status, 404)  # %41 was a key of three characters

    def test_slashes_of_a_key_need_no_encoding(self):
        self.put("dir/file", b"1")
        self.assertEqual(self.client.request("GET", "/v1/db/app/kv/dir/file").body, b"1")

    def test_a_broken_escape_is_400(self):
        for path in ("%", "%4", "%zz", "a%G0"):
            self.refused(self.client.request("GET", f"/v1/db/app/kv/{path}"), 400, "EINVAL", "key")

    def test_a_key_of_no_bytes_is_400(self):
        self.refused(self.client.request("PUT", "/v1/db/app/kv/", b"x"), 400, "EINVAL", "key")
        self.refused(self.client.request("GET", "/v1/db/app/kv/"), 400, "EINVAL", "key")

    def test_keys_have_64_KiB_at_most(self):
        key = b"\xaa" * KEY_MAX  # %AA: three times as long in the URL
        self.put(key, b"long")
        self.assertEqual(self.get(key, self.followers()[0].client).body, b"long")
        for node in self.cluster.nodes:
            self.refused(node.client.kv("PUT", "app", b"k" * (KEY_MAX + 1), b"x"), 413, "ETOOBIG", "key")
        self.refused(self.client.kv("PUT", "app", b"\xaa" * (2 * KEY_MAX), b"x"), 414, "ETOOBIG")

    def test_values_have_64_MiB_at_most(self):
        value = os.urandom(1 << 20) * 64
        follower = self.followers()[0]
        client = Client(follower.address, timeout=60)
        self.put("big", value, client=client, deadline_ms=60000)
        reply = self.get("big", client, deadline_ms=60000)
        self.assertEqual(reply.status, 200)
        self.assertTrue(reply.body == value)
        reply = client.kv("PUT", "app", "bigger", value + b"x", deadline_ms=60000)
        self.refused(reply, 413, "ETOOBIG", str(VALUE_MAX))
        self.assertEqual(self.get("bigger").status, 404)
        self.assertEqual(client.kv("DELETE", "app", "big", deadline_ms=60000).status, 200)
        client.close()


class Conditions(ClusterTest):
    def test_if_absent_creates_once(self):
        for node, status in zip(self.cluster.nodes, (200, 412, 412)):
            reply = node.client.kv("PUT", "app", "once", node.name.encode(), "if_absent")
            self.assertEqual(reply.status, status, reply)
        self.assertEqual(self.get("once").body, b"n1")
        self.refused(self.client.kv("PUT", "app", "once", b"x", "if_absent"), 412, "NOT_MET")

    def test_if_version_replaces_and_deletes_only_that_version(self):
        first = self.put("versioned", b"1").version
        second = self.put("versioned", b"2", f"if_version={first}").version
        self.assertNotEqual(first, second)
        for node in self.cluster.nodes:
            self.refused(node.client.kv("PUT", "app", "versioned", b"3", f"if_version={first}"), 412,
                         "NOT_MET")
            self.refused(node.client.kv("DELETE", "app", "versioned", None, f"if_version={first}"), 412,
                         "NOT_MET")
        self.assertEqual(self.get("versioned").body, b"2")
        self.assertEqual(self.client.kv("DELETE", "app", "versioned", None,
                                        f"if_version={second}").status, 200)
        self.assertEqual(self.get("versioned").status, 404)

    def test_if_version_of_an_absent_key_is_412(self):
        version = self.put("other", b"1").version
        self.refused(self.client.kv("PUT", "app", "never-there", b"1", f"if_version={version}"), 412,
                     "NOT_MET")

    def test_malformed_versions_are_400(self):
        for text in ("", "1", "x.y", "1.2.3", "-1.2", "1.0", "99999999999999999999999.1"):
            self.refused(self.client.kv("PUT", "app", "k", b"1", f"if_version={text}"), 400, "EINVAL")
        self.refused(self.client.kv("PUT", "app", "k", b"1", "if_absent&if_version=1.1"), 400, "EINVAL",
                     "if_absent and if_version exclude each other")

    def test_a_misspelt_condition_writes_nothing(self):
        for node in self.cluster.nodes:
            for query in ("if_absen", "if_absent=no", "if_absent&if_absent", "ifabsent=true", "bogus=1", "a=%zz"):
                self.refused(node.client.kv("PUT", "app", "misspelt", b"1", query), 400, "EINVAL",
                             query.split("=")[0].split("&")[0])
        self.assertEqual(self.get("misspelt").status, 404)

    def test_one_of_many_racing_creators_wins(self):
        statuses = []

        def create(node):
            client = Client(node.address)
            statuses.append(client.kv("PUT", "app", "race", node.name.encode(), "if_absent").status)
            client.close()

        threads = [threading.Thread(target=create, args=(node,)) for node in self.cluster.nodes * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        self.assertEqual(sorted(statuses), [200] + [412] * 11)


class Batches(ClusterTest):
    def batch(self, ops, client=None, **headers):
        from e2e import hadb_headers
        return (client or self.client).request("POST", "/v1/db/app/batch", json.dumps({"ops": ops}),
                                               hadb_headers(headers))

    def test_all_operations_happen_in_one_transaction(self):
        self.put("batch/old", b"x")
        reply = self.batch([{"op": "put", "key": "batch/a", "value": "1"},
                            {"op": "put", "key_base64": "//4=", "value_base64": "AAE="},
                            {"op": "delete", "key": "batch/old"}], self.followers()[0].client)
        self.assertEqual(reply.status, 200, reply)
        one, two = self.get("batch/a"), self.get(b"\xff\xfe")
        self.assertEqual((one.body, two.body), (b"1", b"\0\1"))
        self.assertEqual({one.version, two.version}, {reply.version})
        self.assertEqual(self.get("batch/old").status, 404)

    def test_one_unmet_condition_refuses_the_whole_batch(self):
        version = self.put("batch/there", b"x").version
        for ops in ([{"op": "put", "key": "batch/no", "value": "1"},
                     {"op": "put", "key": "batch/there", "value": "2", "if_absent": True}],
                    [{"op": "put", "key": "batch/no", "value": "1"},
                     {"op": "delete", "key": "batch/there", "if_version": "1.999999"}]):
            self.refused(self.batch(ops), 412, "NOT_MET")
            self.assertEqual(self.get("batch/no").status, 404)
        self.assertEqual(self.get("batch/there").version, version)
        self.assertEqual(self.batch([{"op": "delete", "key": "batch/there",
                                      "if_version": version}]).status, 200)

    def test_malformed_batches_are_400(self):
        for body in (b"", b"{", b"[]", b"{}", b'{"ops":[]}', b'{"ops":{}}', b'{"ops":[1]}',
                     b'{"ops":[{"op":"put","key":"k"}]}', b'{"ops":[{"op":"put","value":"v"}]}',
                     b'{"ops":[{"op":"drop","key":"k"}]}', b'{"ops":[{"op":"delete","key":1}]}',
                     b'{"ops":[{"op":"delete","key":"k","if_version":"x"}]}',
                     b'{"ops":[{"op":"put","key":"k","value_base64":"!"}]}',
                     b'{"ops":[{"op":"delete","key":""}]}', b"\xff" * 10):
            self.refused(self.client.request("POST", "/v1/db/app/batch", body), 400, "EINVAL")

    def test_a_batch_that_is_not_understood_writes_nothing(self):
        put = {"op": "put", "key": "batch/strict", "value": "1"}
        for more, word in (({"if_version": 7}, "if_version"), ({"if_absent": "true"}, "if_absent"),
                           ({"ifabsent": True}, "ifabsent"), ({"value": 7}, "value"), ({"op": "set"}, "op")):
            for node in self.cluster.nodes:
                self.refused(self.batch([put | more], node.client), 400, "EINVAL", "operation 0", word)
        self.refused(self.client.request("POST", "/v1/db/app/batch", json.dumps({"ops": [put], "if": 1})), 400,
                     "EINVAL", "'if'")
        self.assertEqual(self.get("batch/strict").status, 404)

    def test_thousands_of_operations_fit(self):
        ops = [{"op": "put", "key": f"many/{i:05d}", "value": "v"} for i in range(5000)]
        self.assertEqual(self.batch(ops).status, 200)
        page = self.client.request("GET", "/v1/db/app/scan?prefix=many/&limit=5000").json()
        self.assertEqual(len(page["items"]), 5000)


class Scans(ClusterTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for i in range(20):
            cls.cluster.nodes[0].client.kv("PUT", "app", f"scan/{i:02d}", str(i).encode())

    def scan(self, query, node=None, status=200):
        reply = (node or self.cluster.nodes[0]).client.request("GET", f"/v1/db/app/scan?{query}")
        self.assertEqual(reply.status, status, reply)
        return reply.json()

    def keys(self, query, node=None):
        return [item["key"] for item in self.scan(query, node)["items"]]

    def test_a_prefix_lists_its_keys_in_order_on_every_node(self):
        wanted = [f"scan/{i:02d}" for i in range(20)]
        for node in self.cluster.nodes:
            self.assertEqual(self.keys("prefix=scan/", node), wanted)
            self.assertEqual(self.keys("prefix=scan/&reverse", node), wanted[::-1])

    def test_start_is_inclusive_and_end_exclusive(self):
        self.assertEqual(self.keys("start=scan/03&end=scan/06"), ["scan/03", "scan/04", "scan/05"])
        self.assertEqual(self.keys("start=scan/03&end=scan/06&reverse"),
                         ["scan/05", "scan/04", "scan/03"])
        self.assertEqual(self.keys("prefix=scan/&start=scan/18"), ["scan/18", "scan/19"])
        self.assertEqual(self.keys("start=scan/06&end=scan/03"), [])

    def test_pages_follow_each_other(self):
        page = self.scan("prefix=scan/&limit=7")
        self.assertEqual([item["key"] for item in page["items"]], [f"scan/{i:02d}" for i in range(7)])
        self.assertIsNotNone(page["next"])
        last = self.scan("prefix=scan/&limit=20")
        self.assertIsNone(last["next"])

    def test_items_have_value_and_version(self):
        item = self.scan("prefix=scan/07")["items"][0]
        self.assertEqual(item["value"], "7")
        self.assertEqual(item["version"], self.get("scan/07").version)

    def test_bytes_that_are_no_text_come_as_base64(self):
        self.put(b"\xf0raw", b"\xff")
        item = self.scan("prefix=%F0raw")["items"][0]
        self.assertEqual((item["key_base64"], item["value_base64"]), ("8HJhdw==", "/w=="))

    def test_bad_parameters_are_400(self):
        for query in ("limit=0", "limit=10001", "limit=x", "limit=-1", "limit=", "limit=1&limit=2",
                      "limit=99999999999999999999", "reverse=maybe", "prefix=%", "start=%f", "prefixx=a"):
            self.assertEqual(self.scan(query, status=400)["error"], "EINVAL")


class Reads(ClusterTest):
    def test_linearizable_reads_on_every_node_see_what_was_acknowledged(self):
        for i in range(60):
            writer = self.cluster.nodes[i % 3]
            self.put("register", str(i).encode(), client=writer.client)
            for node in self.cluster.nodes:
                self.assertEqual(self.get("register", node.client, read="linearizable").body,
                                 str(i).encode())

    def test_a_bookmark_makes_own_writes_visible_anywhere(self):
        for i in range(40):
            mark = self.put("mine", str(i).encode(), client=self.cluster.nodes[i % 3].client).bookmark
            for node in self.cluster.nodes:
                reply = self.get("mine", node.client, read="bookmark", bookmark=mark)
                self.assertEqual(reply.body, str(i).encode())

    def test_any_answers_at_once_and_catches_up(self):
        self.put("eventually", b"1")
        for node in self.cluster.nodes:
            wait_for("the write on every node", 10,
                     lambda node=node: self.get("eventually", node.client, read="any").status == 200)

    def test_a_bookmark_of_the_future_is_503_after_the_deadline(self):
        mark = self.put("now", b"1").bookmark
        head, _, number = mark.rpartition(".")
        future = f"{head}.{int(number) + 1000000}" if number.isdigit() else None
        if future is None:
            self.skipTest(f"bookmark {mark} does not end in a number")
        reply = self.get("now", self.followers()[0].client, read="bookmark", bookmark=future,
                         deadline_ms=300)
        self.refused(reply, 503, "EUNAVAIL")
        self.assertTrue(reply.header("Retry-After"))

    def test_malformed_headers_are_400_and_named(self):
        for name, value in (("read", "fresh"), ("ack", "quorum"), ("deadline_ms", "0"),
                            ("deadline_ms", "soon"), ("deadline_ms", "600001"), ("request_id", "1"),
                            ("request_id", "00000000-0000-4000-8000-000000000000")):
            reply = self.client.kv("PUT", "app", "k", b"1", **{name: value})
            self.refused(reply, 400, "EINVAL")
        reply = self.get("k", read="bookmark", bookmark="garbage")
        self.refused(reply, 400, "EINVAL", "ookmark")
        self.refused(self.get("k", read="bookmark"), 400, "EINVAL", "ookmark")


class Writes(ClusterTest):
    def test_every_acknowledgement_mode_is_taken(self):
        for mode in ("async", "local", "durable", "both"):
            for node in self.cluster.nodes:
                self.put(f"ack-{mode}-{node.name}", mode.encode(), client=node.client, ack=mode)
        for mode in ("async", "local", "durable", "both"):
            self.assertEqual(self.get(f"ack-{mode}-n2").body, mode.encode())

    def test_a_request_id_takes_effect_once_through_any_node(self):
        identity = request_id()
        first = self.put("dedup", b"1", request_id=identity)
        self.put("dedup", b"2")
        for node in self.cluster.nodes:
            again = node.client.kv("PUT", "app", "dedup", b"1", request_id=identity)
            self.assertEqual((again.status, again.version), (200, first.version))
            self.assertEqual(again.header("Hadb-Request-Id"), identity)
        self.assertEqual(self.get("dedup").body, b"2")

    def test_a_request_id_stands_for_one_request_only(self):
        identity = request_id()
        self.put("one", b"1", request_id=identity)
        for method, key, body in (("PUT", "one", b"2"), ("PUT", "two", b"1"), ("DELETE", "one", None)):
            self.refused(self.followers()[0].client.kv(method, "app", key, body, request_id=identity), 400,
                         "EINVAL", "request id")
        self.assertEqual((self.get("one").body, self.get("two").status), (b"1", 404))

    def test_a_request_id_from_the_future_is_refused_not_executed(self):
        for node in self.cluster.nodes:
            reply = node.client.kv("PUT", "app", "expired", b"1",
                                   request_id="0fffffff-ffff-7000-8000-000000000001")
            self.refused(reply, 400, "EEXPIRED", "request id")
        self.assertEqual(self.get("expired").status, 404)

    def test_a_request_id_survives_a_change_of_leaders(self):
        identity = request_id()
        first = self.put("kept", b"1", request_id=identity)
        old = self.cluster.leader()
        reply = old.client.request("POST", "/v1/db/app/handoff")
        self.assertEqual(reply.status, 200, reply)
        self.cluster.new_leader(old)
        for node in self.cluster.nodes:
            again = self.put("kept", b"1", client=node.client, request_id=identity)
            self.assertEqual(again.version, first.version)


class Nodes(ClusterTest):
    def test_status_has_the_documented_keys(self):
        self.put("status", b"1")
        self.cluster.agree()
        uuids = set()
        for node in self.cluster.nodes:
            reply = node.client.request("GET", "/v1/status")
            self.assertEqual(reply.status, 200)
            body = reply.json()
            self.assertEqual(body["node"], node.name)
            entry = body["databases"][0]
            for key in ("name", "uuid", "role", "leader", "term", "txid", "durable_txid", "applied_txid",
                        "chain_hash"):
                self.assertIn(key, entry)
            self.assertEqual(entry["leader"], {"node": self.cluster.leader().name,
                                               "address": self.cluster.leader().address})
            self.assertIn(entry["role"], ("leader", "follower"))
            self.assertRegex(entry["chain_hash"], "^[0-9a-f]{64}$")
            uuids.add(entry["uuid"])
        self.assertEqual(len(uuids), 1)

    def test_health_readiness_and_metrics_answer(self):
        for node in self.cluster.nodes:
            self.assertEqual(node.client.request("GET", "/healthz").status, 200)
            self.assertEqual(node.client.request("GET", "/readyz").status, 200)
            text = node.client.request("GET", "/v1/metrics").body.decode()
            for line in text.strip().splitlines():
                self.assertRegex(line, r"^[a-z_]+ \d+$")

    def test_unknown_databases_paths_and_methods_are_refused(self):
        self.refused(self.client.kv("GET", "nodb", "k"), 404, "ENODB", "nodb")
        self.refused(self.client.kv("PUT", "nodb", "k", b"1"), 404, "ENODB", "nodb")
        self.refused(self.client.request("POST", "/v1/db/nodb/batch", b"{}"), 404, "ENODB")
        for path in ("/", "/v1", "/v2/status", "/v1/db", "/v1/db/app", "/v1/db/app/what", "/v1/statusx"):
            self.assertEqual(self.client.request("GET", path).status, 404, path)
        for method, path in (("POST", "/v1/status"), ("DELETE", "/v1/db/app/scan"), ("GET", "/v1/db/app/batch"),
                             ("PUT", "/v1/db/app/handoff"), ("PATCH", "/v1/status")):
            self.assertEqual(self.client.request(method, path).status, 405, (method, path))
        for method in ("POST", "PATCH", "OPTIONS"):
            reply = self.client.kv(method, "app", "k", b"1")
            self.refused(reply, 405, "EINVAL", "GET, HEAD, PUT, DELETE")
            self.assertEqual(reply.header("Allow"), "GET, HEAD, PUT, DELETE")

    def test_leadership_is_handed_over_on_request_to_any_node(self):
        for name, through in (("n1", 0), ("n2", 1), ("n3", 0), ("n1", 2)):
            if self.cluster.leader().name == name:
                continue
            client = self.cluster.nodes[through].client
            reply = client.request("POST", "/v1/db/app/handoff", json.dumps({"to": name}))
            self.assertEqual(reply.status, 200, reply)
            wait_for(f"{name} as leader", 10, lambda: self.cluster.leader().name == name)

    def test_a_hand_over_to_nobody_known_is_refused_and_changes_nothing(self):
        leader = self.cluster.leader()
        term = leader.status("app")["term"]
        for body in (b'{"to":"nobody"}', b'{"to":1}', b'{"to":"../x"}', b"{", b"[]"):
            reply = leader.client.request("POST", "/v1/db/app/handoff", body)
            self.assertEqual(reply.status, 400, (body, reply))
        self.assertEqual(leader.status("app")["term"], term)

    def test_a_hand_over_to_the_leader_itself_is_done_already(self):
        leader = self.cluster.leader()
        term = leader.status("app")["term"]
        for node in self.cluster.nodes:
            reply = node.client.request("POST", "/v1/db/app/handoff", json.dumps({"to": leader.name}))
            self.assertEqual((reply.status, reply.json()), (200, {"status": "done"}), reply)
        self.assertEqual(leader.status("app")["term"], term)


class Malformed(ClusterTest):
    names = ("n1",)

    def alive(self):
        self.assertEqual(Client(self.cluster.nodes[0].address).once("GET", "/readyz").status, 200)

    def test_garbage_gets_400_or_a_closed_connection_and_nothing_breaks(self):
        address = self.cluster.nodes[0].address
        for data in (b"\0" * 100, b"\r\n\r\n", b"GET\r\n\r\n", b"GET /v1/status\r\n\r\n", os.urandom(4096),
                     b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                     b"PUT /v1/db/app/kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nabc",
                     b"PUT /v1/db/app/kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\nabc",
                     b"PUT /v1/db/app/kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
                     b"Content-Length: 5\r\n\r\nabcde",
                     b"PUT /v1/db/app/kv/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                     b"GET /v1/status HTTP/1.1\r\n: x\r\nHost: x\r\n\r\n"):
            answer = raw(address, data)
            if answer:
                self.assertRegex(answer[:12], rb"^HTTP/1\.[01] (4\d\d|505|501)", data)
            self.alive()
        self.assertEqual(self.get("k").status, 404)

    def test_a_body_that_ends_early_writes_nothing(self):
        raw(self.cluster.nodes[0].address,
            b"PUT /v1/db/app/kv/half HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this")
        self.alive()
        self.assertEqual(self.get("half").status, 404)

    def test_headers_that_are_too_long_are_431(self):
        for size in ((16 << 10) + 1, 200 << 10, 400 << 10):
            reply = Client(self.cluster.nodes[0].address).once("GET", "/v1/status", headers={"X-Long": "x" * size})
            self.refused(reply, 431, "ETOOBIG", "16 KiB")
        reply = self.client.request("GET", "/v1/status", headers={f"X-{i}": "x" for i in range(200)})
        self.refused(reply, 431, "ETOOBIG", "128")
        self.alive()

    def test_refusals_are_one_answer_each(self):
        put = b"PUT /v1/db/app/kv/k HTTP/1.1\r\nHost: x\r\n"
        for data, status in ((put + b"Content-Length: abc\r\n\r\nabc", 400), (put + b"Content-Length: -5\r\n\r\nabc", 400),
                             (put + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", 400),
                             (put + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
                             (put + b"X: a\0b\r\n\r\n", 400), (b"GET / HTTP/2.0\r\n\r\n", 505)):
            answer = raw(self.cluster.nodes[0].address, data)
            head, _, body = answer.partition(b"\r\n\r\n")
            self.assertEqual(answer.count(b"HTTP/1.1 "), 1, answer)
            self.assertIn(b" %d " % status, head)
            if body.startswith(b"{"):  # else it is the HTTP library's own
                self.assertEqual(set(json.loads(body)), {"error", "message"})
            self.assertIn(b"Content-Length: %d" % len(body), head)

    def test_a_body_that_is_announced_too_long_is_413_before_it_is_sent(self):
        answer = raw(self.cluster.nodes[0].address,
                     b"PUT /v1/db/app/kv/huge HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n")
        self.assertRegex(answer[:12], rb"^HTTP/1\.1 413")
        answer = raw(self.cluster.nodes[0].address,
                     b"PUT /v1/db/app/kv/huge HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                     b"Content-Length: %d\r\n\r\n" % (VALUE_MAX + 1))
        self.assertRegex(answer[:12], rb"^HTTP/1\.1 413")  # and no 100 before it
        self.alive()

    def test_requests_may_follow_each_other_on_one_connection(self):
        one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = raw(self.cluster.nodes[0].address,
                     one * 3 + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertGreaterEqual(answer.count(b"HTTP/1.1 200"), 1)


class Tokens(ClusterTest):
    names = ("n1", "n2")

    @classmethod
    def setUpClass(cls):
        import tempfile
        file = tempfile.NamedTemporaryFile("w", prefix="hadb-token-", delete=False)
        file.write("a-secret-token\n")
        file.close()
        cls.addClassCleanup(os.unlink, file.name)
        cls.options = {"token_file": file.name}
        super().setUpClass()

    def test_requests_without_the_token_are_401(self):
        for node in self.cluster.nodes:
            for token in (None, "wrong", "a-secret-toke", "a-secret-token2", ""):
                client = Client(node.address, token)
                for method, path in (("GET", "/v1/status"), ("PUT", "/v1/db/app/kv/k"),
                                     ("GET", "/v1/db/nodb/kv/k"), ("POST", "/v1/db/app/handoff"),
                                     ("POST", "/v1/stream"), ("GET", "/nowhere")):
                    self.refused(client.request(method, path, b"x" if method != "GET" else None), 401,
                                 "EAUTH")
                client.close()

    def test_health_needs_no_token(self):
        for path in ("/healthz", "/readyz"):
            self.assertEqual(Client(self.cluster.nodes[0].address).once("GET", path).status, 200)

    def test_nodes_with_one_token_forward_and_follow(self):
        for node in self.cluster.nodes:
            self.put(f"token-{node.name}", b"1", client=node.client)
            self.assertEqual(self.get(f"token-{node.name}", self.cluster.nodes[0].client).status, 200)


class Unavailable(ClusterTest):
    """Nodes that cannot write, and outcomes that nobody knows."""
    names = ("n1", "n2")
    options = {"ttl_ms": 60000}

    def test_an_unknown_outcome_is_504_and_the_same_id_settles_it(self):
        leader = self.cluster.leader()
        follower = self.followers()[0]
        self.put("warm", b"1", client=follower.client)
        leader.signal(signal.SIGSTOP)
        try:
            identity = request_id()
            started = time.monotonic()
            reply = follower.client.kv("PUT", "app", "open", b"1", "if_absent", request_id=identity,
                                       deadline_ms=400)
            took = time.monotonic() - started
        finally:
            leader.signal(signal.SIGCONT)
        self.refused(reply, 504, "EUNKNOWN")
        self.assertEqual(reply.header("Hadb-Request-Id"), identity)
        self.assertLess(took, 3)
        reply = self.put("open", b"1", "if_absent", client=follower.client, request_id=identity)
        self.assertEqual(self.get("open").version, reply.version)


class Leaderless(ClusterTest):
    """A node that may only follow, when the leader is gone for good."""
    names = ("n1",)

    def test_no_leader_before_the_deadline_is_503(self):
        follower = Node(HADB, self.cluster.folder, "alone", ("app=kv",), options=("--never-lead",))
        self.addCleanup(follower.kill)
        self.put("kept", b"1")
        follower.start()
        wait_for("the follower", 10, lambda: self.get("kept", follower.client).status == 200)
        self.cluster.nodes[0].kill()
        for method, body in (("PUT", b"1"), ("DELETE", None)):
            started = time.monotonic()
            reply = follower.client.kv(method, "app", "k", body, deadline_ms=300)
            self.assertLess(time.monotonic() - started, 3)
            self.refused(reply, 503, "EUNAVAIL")
            self.assertTrue(reply.header("Retry-After"))
        self.assertEqual(self.get("kept", follower.client, read="any").body, b"1")
        self.assertEqual(self.get("kept", follower.client, read="linearizable").body, b"1")
        reply = follower.client.request("POST", "/v1/db/app/handoff", b'{"to":"alone"}',
                                        {"Hadb-Deadline-Ms": "300"})
        self.assertIn(reply.status, (503, 504))


class MemoryEngine(ClusterTest):
    databases = ("app=memory",)

    def test_the_memory_engine_replicates_alike(self):
        self.put("m", b"1", client=self.followers()[0].client)
        for node in self.cluster.nodes:
            self.assertEqual(self.get("m", node.client).body, b"1")


if __name__ == "__main__":
    main()
