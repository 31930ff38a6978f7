#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hadb doctor over every kind of store: what it finds of fit ones, of liars, of policies, and what it says when a URL,
key, port or certificate is wrong. `hadb node` has to say the same."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from e2e import HADB, ROOT, Cluster, main, wait_for

sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
os.environ["HADB_TEST_PROGRAM"] = HADB
import minio  # noqa: E402
import tls_server  # noqa: E402
import with_lease  # noqa: E402
import with_s3  # noqa: E402

FAILED, USAGE, UNAVAILABLE, AUTH = 1, 2, 5, 8
STORAGE_CHECKS = ["race", "exists", "stale_tag", "replace_race", "absent_tag", "read_after", "absent_first", "large",
                  "same_bytes", "delete", "list", "lasting"]
LEASE_CHECKS = ["race", "exists", "stale_tag", "fresh_tag", "replace_race", "absent_tag", "read_after"]


def environment(**more):
    env = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
    env.update(AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE="/nonexistent", AWS_SHARED_CREDENTIALS_FILE="/nonexistent",
               **more)
    return env


class DoctorTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="hadb-doctor-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def server(self, kind):
        """A real server of its own, or one of the test suite; skips where there is none."""
        try:
            server = kind()
        except SystemExit as end:
            self.assertEqual(end.code, 77, "a server is missing, and REQUIRE_REAL_STORES=1")
            self.skipTest("no such server here")
        self.addCleanup(server.close)
        return server

    def scripted(self):
        server = self.server(with_s3.Scripted)
        self.control = server.server.control
        return server

    def doctor(self, *args, code=0, env=None, secrets=()):
        """Its report, as --json prints it; everything that it says, secrets apart, is in self.words."""
        done = subprocess.run([HADB, "doctor", "--json", "--rounds", "3", *args], capture_output=True, text=True, timeout=90,
                              env=environment(**(env or {})), stdin=subprocess.DEVNULL, check=False)
        self.words = done.stderr
        self.assertEqual(done.returncode, code, (args, done.stdout[-2000:], done.stderr))
        for secret in (*secrets, *(env or {}).values()):
            self.assertNotIn(secret, done.stdout + done.stderr)
        if not done.stdout:
            return None
        self.assertEqual(done.stdout.count("\n"), 1)
        report = json.loads(done.stdout)
        self.shape(report)
        return report

    def shape(self, report):
        """The members that docs/doctor.md names."""
        self.assertEqual(set(report), {"passed", "storage", "lease", "estimate", "settings"})
        self.assertEqual(set(report["settings"]), {"options", "ttl_ms", "ttl_ms_min", "window"})
        both = {"url", "error", "checks", "latencies", "wrote", "left"}
        if report["storage"]:
            self.assertEqual(set(report["storage"]), both | {"capabilities", "clock_offset_s", "sent"})
        if report["lease"]:
            self.assertEqual(set(report["lease"]), both)
        for store in (report["storage"], report["lease"]):
            for check in store["checks"] if store else ():
                self.assertLessEqual(set(check), {"name", "status", "text", "means", "change"})
                self.assertIn(check["status"], ("passed", "failed", "noted"))
                self.assertTrue(check["text"])

    def statuses(self, store):
        return {check["name"]: check["status"] for check in store["checks"]}

    def failures(self, store):
        return sorted(name for name, status in self.statuses(store).items() if status == "failed")


class Fit(DoctorTest):
    def fine_storage(self, store):
        statuses = self.statuses(store)
        self.assertEqual([name for name in statuses if name != "clock"], STORAGE_CHECKS)
        self.assertEqual({n for n, s in statuses.items() if s == "noted"} - {"lasting"}, {"same_bytes", "delete"})
        self.assertEqual(self.failures(store), [])
        self.assertIsNone(store["error"])
        self.assertIsNone(store["left"])
        self.assertEqual(store["wrote"], "probe/run-")
        for name in ("get", "get_absent", "head", "create", "create_refused", "replace", "list", "delete", "race"):
            latency = store["latencies"][name]
            self.assertGreater(latency["count"], 0)
            self.assertTrue(0 <= latency["p50_us"] <= latency["p99_us"] <= latency["max_us"], (name, latency))

    def fine_lease(self, store, checks=LEASE_CHECKS):
        self.assertEqual(self.statuses(store), {name: "passed" for name in checks})
        self.assertIsNone(store["error"])
        self.assertEqual(set(store["latencies"]), {"read", "renew", "create_refused", "race"})

    def files(self, folder):
        return sorted(os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names
                      if os.sep + ".lock" not in at)

    def test_folders(self):
        store, lease = f"{self.folder}/store", f"{self.folder}/lease"
        report = self.doctor("--store", f"file://{store}", "--lease", f"file://{lease}")
        self.assertEqual(self.words, "")
        self.assertTrue(report["passed"])
        self.fine_storage(report["storage"])
        self.fine_lease(report["lease"])
        self.assertEqual(report["storage"]["capabilities"], ["replace", "durable", "shared"])
        self.assertIsNone(report["storage"]["clock_offset_s"])
        self.assertEqual(self.files(store), [])
        left = report["lease"]["left"]
        self.assertEqual(self.files(lease), [f"{left}{i}" for i in range(3)])
        self.assertIn(f"--store 'file://{store}' --lease 'file://{lease}' --ttl-ms ", report["settings"]["options"])

    def test_memory_is_fit_but_does_not_last(self):
        report = self.doctor("--store", "mem:", "--lease", "mem:")
        self.fine_storage(report["storage"])
        self.fine_lease(report["lease"])
        self.assertEqual(self.statuses(report["storage"])["lasting"], "noted")
        self.assertNotIn("shared", report["storage"]["capabilities"])

    def test_one_of_the_two_is_enough(self):
        self.assertIsNone(self.doctor("--store", "mem:")["lease"])
        self.assertIsNone(self.doctor("--lease", "mem:")["storage"])

    def test_s3(self):
        server = self.scripted()
        report = self.doctor("--store", server.url, "--lease", server.url.replace("/t?", "/lease?"), env=server.credentials)
        self.fine_storage(report["storage"])
        self.fine_lease(report["lease"])
        self.assertIsNone(report["lease"]["left"])
        self.assertIn(report["storage"]["clock_offset_s"], (-1, 0, 1))
        told = self.control({})
        self.assertEqual(told["objects"], 0)
        log = list(server.server.server.log) if hasattr(server.server, "server") else server.server.log
        storage = [entry for entry in log if "lease" not in entry["target"] and "doctor" not in entry["target"]]
        sent = report["storage"]["sent"]
        # The lease store's one batch of deletions names nothing in its target.
        self.assertEqual(sum(sent.values()), len(storage) - 1)
        self.assertGreater(report["estimate"]["storage_cost_nusd"], 0)
        self.assertGreater(report["estimate"]["lease_cost_nusd"], 0)

    def test_minio(self):
        server = self.server(minio.Minio)
        report = self.doctor("--store", server.url, "--lease", server.url.replace("/t?", "/lease?"), env=server.credentials)
        self.fine_storage(report["storage"])
        self.fine_lease(report["lease"])
        self.assertIsNone(report["lease"]["left"])

    def lease_server(self, kind):
        server = self.server(with_lease.KINDS[kind])
        url = server.variables()["HADB_TEST_LEASE_URL"].replace("UNIQUE", "doctor")
        report = self.doctor("--lease", url, "--ttl-ms", "5000", secrets=[server.secret])
        self.fine_lease(report["lease"], [*LEASE_CHECKS, "ttl"])
        self.assertTrue(report["lease"]["left"].startswith("doctor/run-"))
        self.assertEqual(report["estimate"]["lease_cost_nusd"], 0)
        self.assertEqual(report["estimate"]["ttl_ms"], 5000)

    def test_redis(self):
        self.lease_server("redis")

    def test_etcd(self):
        self.lease_server("etcd")

    def test_nats(self):
        self.lease_server("nats")

    def test_http(self):
        self.lease_server("http")

    def test_the_text_names_everything(self):
        done = subprocess.run([HADB, "doctor", "--store", "mem:", "--lease", "mem:", "--rounds", "2", "--databases", "10"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for word in (*STORAGE_CHECKS, *LEASE_CHECKS, "p99 ms", "10 databases", "use: hadb node"):
            self.assertIn(word, done.stdout)
        self.assertRegex(done.stdout, r"--ttl-ms [1-9]\d{3,}", "what it is depends on how busy this machine is")
        self.assertNotIn("FAIL", done.stdout)

    def test_a_signal_ends_it_and_it_clears_away(self):
        store = f"{self.folder}/store"
        process = subprocess.Popen([HADB, "doctor", "--store", f"file://{store}", "--rounds", "1000"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        self.addCleanup(process.kill)
        wait_for("something that it wrote", 20, lambda: self.files(store))
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=30)
        self.assertEqual(process.returncode, FAILED, words)
        self.assertIn(b"cancelled", words)
        self.assertEqual(self.files(store), [])


class Liars(DoctorTest):
    """Settings of the scripted server, and the checks that they break."""

    LIES = {
        "ignore_conditions": ["absent_tag", "exists", "race", "replace_race", "stale_tag"],
        "check_then_act": ["race", "replace_race"],
        "ignore_create": ["exists", "race"],
        "ignore_match": ["replace_race", "stale_tag"],
        "match_creates": ["absent_tag"],
        "remembers_absence": ["absent_first"],
        "one_tag": ["replace_race", "stale_tag"],
        "flips": ["large"],
    }

    def test_what_is_broken_is_found_and_explained(self):
        server = self.scripted()
        for lie, broken in self.LIES.items():
            self.control({"reset": True, "set": {lie: True}})
            report = self.doctor("--store", server.url, code=FAILED, env=server.credentials)
            self.assertEqual(self.failures(report["storage"]), broken, lie)
            self.assertFalse(report["passed"])
            self.assertIn(f"{len(broken)} check", self.words)
            for check in report["storage"]["checks"]:
                if check["status"] == "failed":
                    self.assertIn("no node leads", check["means"])
                    self.assertTrue(check["change"])
            self.assertEqual(self.control({})["objects"], 0, lie)

    def test_stale_reads_fail_what_is_read_back(self):
        server = self.scripted()
        self.control({"set": {"stale_reads": True}})
        report = self.doctor("--store", server.url, code=FAILED, env=server.credentials)
        self.assertLessEqual({"read_after", "stale_tag"}, set(self.failures(report["storage"])))

    def test_a_lease_store_that_lies_costs_time_only(self):
        server = self.scripted()
        self.control({"set": {"check_then_act": True}})
        report = self.doctor("--lease", server.url, code=FAILED, env=server.credentials)
        self.assertEqual(self.failures(report["lease"]), ["race", "replace_race"])
        for check in report["lease"]["checks"]:
            if check["status"] == "failed":
                self.assertIn("never an acknowledged write", check["means"])

    def test_a_ttl_that_is_too_short_is_found(self):
        report = self.doctor("--lease", "mem:", "--ttl-ms", "100", code=FAILED)
        self.assertEqual(self.failures(report["lease"]), ["ttl"])


class Policies(DoctorTest):
    def refuse(self, **fault):
        self.control({"fault": {"do": "status", "status": 403, "code": "AccessDenied", "times": 1 << 30, **fault}})

    def test_deleting_may_be_forbidden(self):
        server = self.scripted()
        self.refuse(method="POST", path="delete")
        report = self.doctor("--store", server.url, env=server.credentials)
        check = next(check for check in report["storage"]["checks"] if check["name"] == "delete")
        self.assertEqual(check["status"], "noted")
        self.assertIn("403", check["text"])
        self.assertIn("s3:DeleteObject", check["change"])
        left = report["storage"]["left"]
        self.assertTrue(left.startswith("probe/run-"))
        self.assertTrue([name for name in server.server.objects if name.startswith(f"t/{left}")])

    def test_a_node_leads_where_deleting_is_forbidden(self):
        server = self.scripted()
        self.refuse(method="POST", path="delete")
        os.environ.update(server.credentials)
        self.addCleanup(lambda: [os.environ.pop(name) for name in server.credentials])
        with Cluster(HADB, ("n1",), store=server.url) as cluster:
            self.assertEqual(cluster.leader().client.kv("PUT", "app", "k", "v").status, 200)

    def test_listing_has_to_be_allowed(self):
        server = self.scripted()
        self.refuse(method="GET", path="list-type")
        report = self.doctor("--store", server.url, code=FAILED, env=server.credentials)
        self.assertEqual(self.failures(report["storage"]), ["list"])

    def test_writing_has_to_be_allowed(self):
        server = self.scripted()
        self.refuse(method="PUT")
        report = self.doctor("--store", server.url, code=AUTH, env=server.credentials)
        self.assertEqual(report["storage"]["error"]["error"], "EAUTH")
        self.assertIn("s3:PutObject", self.words)
        self.assertEqual(self.control({})["objects"], 0)

    def test_a_clock_that_differs_is_noted(self):
        server = self.scripted()
        self.control({"set": {"clock_offset_s": 4000}})
        report = self.doctor("--store", server.url, env=server.credentials)
        self.assertIn(report["storage"]["clock_offset_s"], (3999, 4000, 4001))
        self.assertEqual(self.statuses(report["storage"])["clock"], "noted")


class BadInput(DoctorTest):
    """Each case: one clear error that names what was tried and what to change; the same from doctor and from node."""

    def says(self, what, url, words, code, env=None, secrets=()):
        report = self.doctor(f"--{what}", url, code=code, env=env, secrets=secrets)
        errors = [json.loads(line)["message"] for line in self.words.splitlines() if line.startswith("{")]
        self.assertEqual(len(errors), 1, self.words)
        for word in words:
            self.assertIn(word, errors[0], url)
        self.assertLess(len(errors[0]), 800)
        self.assertFalse(report["passed"])
        store = report["storage" if what == "store" else "lease"]
        self.assertIn(store["error"]["message"], errors[0])
        self.assertEqual(store["checks"], [])
        self.assertIsNone(store["left"])
        self.assertIn("could not reach" if code == UNAVAILABLE else "cannot use", errors[0])

    def storage(self, url, words, code, env=None, node=True):
        self.says("store", url, words, code, env)
        if node:
            self.node(["--store", url, "--lease", f"file://{self.folder}/lease"], words, code == UNAVAILABLE, env)

    def lease(self, url, words, code, env=None, secrets=()):
        self.says("lease", url, words, code, env, secrets)
        self.node(["--store", f"file://{self.folder}/store", "--lease", url], words, True, env)

    def node(self, args, words, goes_on, env):
        """What cannot be reached may come back: the node goes on, and says so in its log; all else ends it."""
        folder = tempfile.mkdtemp(dir=self.folder)
        path = os.path.join(folder, "log")
        with open(path, "wb") as log:
            process = subprocess.Popen([HADB, "node", "--name", "n", "--data", f"{folder}/data", "--listen", "127.0.0.1:0",
                                        "--db", "app=kv", "--ttl-ms", "5000", *args], stdout=subprocess.PIPE, stderr=log,
                                       stdin=subprocess.DEVNULL, env=environment(**(env or {})))

        def read():
            with open(path, encoding="utf-8", errors="replace") as log:
                return log.read()

        def said():
            text = read()
            return all(word in text for word in words)

        try:
            until = time.monotonic() + 30
            while not said() and process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            self.assertTrue(said(), (args, read()))
            if goes_on:
                self.assertIsNone(process.poll())
            else:
                self.assertGreater(process.wait(20), 0)
        finally:
            process.kill()
            process.wait(10)
            process.stdout.close()

    # --- storage ---

    def s3_cases(self, server, origin, region=True):
        keys, url = server.credentials, server.url
        self.storage(url.replace("test-bucket", "other-bucket"), ["NoSuchBucket", "other-bucket", "create it"], USAGE, keys)
        if region:
            self.storage(url + "&region=eu-west-9", ["set region=us-east-1", "eu-west-9"], USAGE, keys)
        self.storage(url, ["InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"], AUTH, {**keys, "AWS_ACCESS_KEY_ID": "NOBODY1"})
        self.storage(url, ["SignatureDoesNotMatch", "check AWS_SECRET_ACCESS_KEY"], AUTH,
                     {**keys, "AWS_SECRET_ACCESS_KEY": "wrong-secret"})
        self.storage(url, ["no credentials", "AWS_ACCESS_KEY_ID"], AUTH)
        self.storage(url.replace(origin, f"http://127.0.0.1:{minio.free_port()}"), ["Failed to connect", "is the server up"],
                     UNAVAILABLE, keys)
        self.storage(url.replace(origin, "http://nowhere.invalid:9000"), ["resolve host", "nowhere.invalid", "DNS"],
                     UNAVAILABLE, keys)
        mute = tls_server.Listener()
        self.addCleanup(mute.close)
        self.storage(url.replace(origin, f"http://127.0.0.1:{mute.port}") + "&idle_timeout_ms=300",
                     ["no answer came", "right port"], UNAVAILABLE, keys)

    def test_scripted_s3(self):
        server = self.scripted()
        self.s3_cases(server, server.server.origin)
        # It waits for the rest of a line that never comes: a node may meet its own deadline first.
        self.storage(server.url.replace("endpoint=http:", "endpoint=https:"), ["TLS", "port"], UNAVAILABLE, server.credentials,
                     node=False)

    def test_minio(self):
        server = self.server(minio.Minio)
        self.s3_cases(server, server.origin, region=False)
        self.storage(server.url.replace("endpoint=http:", "endpoint=https:"), ["that port speaks no TLS"], AUTH,
                     server.credentials)

    def test_minio_over_tls(self):
        server = self.server(lambda: minio.Minio(tls=True))
        plain = server.url.replace("endpoint=https:", "endpoint=http:").replace(f"&ca={server.ca}", "")
        keys = server.credentials
        self.storage(plain, ["not an answer of S3", "endpoint=https://"], FAILED, keys)
        self.storage(server.url.replace(f"&ca={server.ca}", ""), ["certificate", "add ca=FILE"], AUTH, keys)
        self.storage(server.url.replace(server.ca, "/nonexistent/ca"), ["/nonexistent/ca", "ca= must name"], AUTH, keys)
        self.doctor("--store", server.url, env=keys)

    def bad_certificate(self, **certificate):
        server = tls_server.Tls(tempfile.mkdtemp(dir=self.folder), **certificate)
        self.addCleanup(server.close)
        return server.port, server.certificates.path("ca.pem")

    def tls_cases(self, words, **certificate):
        port, ca = self.bad_certificate(**certificate)
        keys = {"AWS_ACCESS_KEY_ID": "TESTKEYID", "AWS_SECRET_ACCESS_KEY": "test-secret"}
        self.storage(f"s3://bucket/x?endpoint=https://127.0.0.1:{port}&ca={ca}", words, AUTH, keys)
        self.lease(f"https://127.0.0.1:{port}?ca={ca}", words, AUTH)
        self.lease(f"etcds://127.0.0.1:{port}/x?ca={ca}", words, AUTH)
        self.lease(f"rediss://127.0.0.1:{port}?ca={ca}", words, AUTH)

    def test_an_expired_certificate(self):
        self.tls_cases(["expired", "renew"], days=-1)

    def test_a_certificate_of_another_host(self):
        self.tls_cases(["name", "stands in the server's certificate"], names="DNS:elsewhere.test")

    def test_a_policy_is_named(self):
        server = self.scripted()
        self.control({"fault": {"do": "status", "status": 403, "code": "AccessDenied", "times": 1 << 30, "path": "test-bucket"}})
        self.storage(server.url, ["AccessDenied", "s3:GetObject"], AUTH, server.credentials)

    def test_what_is_no_http_is_named(self):
        server = self.scripted()
        self.control({"fault": {"do": "garbage", "times": 1 << 30, "path": "test-bucket"}})
        self.storage(server.url, ["HTTP/0.9", "TLS"], FAILED, server.credentials, node=False)

    # --- lease servers ---

    def lease_cases(self, kind, refused, other, foreign):
        server = self.server(with_lease.KINDS[kind])
        url = server.variables()["HADB_TEST_LEASE_URL"].replace("UNIQUE", "x")
        bad = server.variables().get("HADB_TEST_BAD_AUTH_LEASE_URL", "").replace("UNIQUE", "x")
        here = f"127.0.0.1:{server.port}"
        secrets = [server.secret, "wrong-secret"]
        self.lease(bad, refused, AUTH, secrets=secrets)
        self.lease(url.replace(here, f"127.0.0.1:{minio.free_port()}"), ["is the server up"], UNAVAILABLE, secrets=secrets)
        mute = tls_server.Listener()
        self.addCleanup(mute.close)
        more = ("&" if "?" in url else "?") + "idle_timeout_ms=300&connect_timeout_ms=300"
        self.lease(url.replace(here, f"127.0.0.1:{mute.port}") + more, ["right port"], UNAVAILABLE, secrets=secrets)
        stranger = self.server(with_lease.KINDS[other])
        code, words = foreign
        self.lease(url.replace(here, f"127.0.0.1:{stranger.port}") + more, words, code, secrets=secrets)
        return server

    def test_redis(self):
        self.lease_cases("redis", ["WRONGPASS", "check user and password"], "http", (UNAVAILABLE, ["right port"]))

    def test_etcd(self):
        self.lease_cases("etcd", ["authentication failed", "check user, password"], "redis", (FAILED, ["right port"]))

    def test_nats(self):
        self.lease_cases("nats", ["not accepted", "check user:password@"], "redis", (UNAVAILABLE, ["right port"]))

    def test_nats_without_rights(self):
        server = self.server(with_lease.KINDS["nats"])
        url = server.variables()["HADB_TEST_WEAK_LEASE_URL"].replace("UNIQUE", "x")
        self.says("lease", url + "?idle_timeout_ms=500", ["Permissions Violation", "docs/lease-stores.md"], AUTH,
                  secrets=[server.secret])

    def test_http(self):
        self.lease_cases("http", ["401", "check the token"], "redis", (FAILED, ["right port"]))

    def strangers(self, kind, words):
        server = self.server(with_lease.KINDS[kind])
        url = server.variables()["HADB_TEST_BAD_CA_LEASE_URL"].replace("UNIQUE", "x")
        self.lease(url, words, AUTH, secrets=[server.secret])

    def test_strangers_certificates(self):
        for kind in ("redis-tls", "etcd-tls", "nats-tls", "http-tls"):
            self.strangers(kind, ["certificate", "add ca=FILE"])

    def test_nats_with_bad_certificates(self):
        for words, certificate in ((["expired", "renew"], {"days": -1}),
                                   (["stands in the server's certificate"], {"names": "DNS:elsewhere.test"})):
            class Bad(with_lease.NatsTls):
                def prepare(self, again=certificate):
                    super().prepare()
                    tls_server.sign_again(self.certificates, **again)

            server = self.server(Bad)
            self.lease(server.url(server.port).replace("UNIQUE", "x"), words, AUTH, secrets=[server.secret])


class NodeTest(DoctorTest):
    """A cluster over the scripted server."""

    def setUp(self):
        super().setUp()
        self.s3 = self.scripted()
        more = {**self.s3.credentials, "AWS_EC2_METADATA_DISABLED": "true"}
        before = {name: os.environ.get(name) for name in more}
        os.environ.update(more)
        self.addCleanup(lambda: [os.environ.pop(n) if v is None else os.environ.update({n: v}) for n, v in before.items()])


class Nodes(NodeTest):
    """What a node does on a store that is not fit."""

    def refuses(self, node, lie):
        """It does not lead, and says why wherever one may look."""
        ready = node.client.once("GET", "/readyz")
        self.assertEqual(ready.status, 503, lie)
        reason = ready.json()["message"]
        self.assertRegex(reason, r"storage s3://test-bucket.* fails check \w+: .*does not lead; hadb doctor", lie)
        status = node.client.once("GET", "/v1/status").json()
        self.assertEqual(status["reason"], reason)
        self.assertNotEqual(status["databases"][0]["role"], "leader")
        shown = subprocess.run([HADB, "status", "--node", node.address], capture_output=True, text=True, timeout=20, check=False)
        self.assertIn(f"not ready: {reason}", shown.stdout)
        with open(node.log, encoding="utf-8") as log:
            self.assertRegex(log.read(), r"error probe: storage s3://\S+ fails check")
        write = node.client.kv("PUT", "app", "k", "v", deadline_ms=200)
        self.assertEqual(write.status, 503, lie)

    def test_a_node_never_leads_on_a_liar_and_says_why(self):
        for lie in [*Liars.LIES, "stale_reads"]:
            self.control({"reset": True, "set": {lie: True}})
            url = self.s3.url.replace("/t?", f"/{lie.replace('_', '-')}?")
            with Cluster(HADB, ("n1",), store=url) as cluster:
                self.refuses(cluster.nodes[0], lie)
                # Not for lack of time: the patience of the node is over, and there is no seal.
                time.sleep(0.2)
                seals = [name for name in self.s3.server.objects if "/log/" in name]
                self.assertEqual(seals, [], lie)

    def test_a_verdict_that_is_no_binds_the_next_node_until_the_store_is_fit(self):
        self.control({"set": {"ignore_match": True}})
        with Cluster(HADB, ("n1",), store=self.s3.url) as cluster:
            self.refuses(cluster.nodes[0], "ignore_match")
            self.control({"reset": True})
            self.assertEqual(cluster.nodes[0].stop()[0], 0)
            cluster.nodes[0].start()
            self.assertEqual(cluster.leader().client.kv("PUT", "app", "k", "v").status, 200)

    def test_a_store_that_is_down_at_the_start_is_asked_again(self):
        self.control({"fault": {"do": "drop", "times": 1 << 30, "path": "test-bucket"}})
        with Cluster(HADB, ("n1",), store=self.s3.url) as cluster:
            node = cluster.nodes[0]
            self.assertEqual(node.client.once("GET", "/readyz").status, 503)
            with open(node.log, encoding="utf-8") as log:
                self.assertIn("asking again", log.read())
            self.control({"reset": True})
            self.assertEqual(cluster.leader(30).client.kv("PUT", "app", "k", "v").status, 200)
            self.assertEqual(node.client.once("GET", "/readyz").status, 200)


class Counted(NodeTest):
    """The estimate beside what a server counts."""

    def counts(self, log):
        """(storage writes, storage reads, lease writes, all) as they are paid for."""
        storage = [e for e in log if "/lease/" not in e["target"]]
        reads = [e for e in storage if e["method"] in ("GET", "HEAD") and "list-type" not in e["target"]]
        leases = [e for e in log if "/lease/" in e["target"] and e["method"] == "PUT"]
        return len(storage) - len(reads), len(reads), len(leases), len(log)

    def test_the_formula_is_what_nodes_send(self):
        slots, batches, ttl_ms = 50, 200, 1500
        server, lease = self.s3.server, self.s3.url.replace("/t?", "/lease?")
        with Cluster(HADB, ("n1", "n2", "n3"), (f"app=kv,snapshot-slots={slots},grace-ms=1",), store=self.s3.url, lease=lease,
                     ttl_ms=ttl_ms) as cluster:
            leader = cluster.leader()
            wait_for("nothing but renewals", 20, lambda: self.quiet(server))
            server.log.clear()
            began = time.monotonic()
            time.sleep(5)  # the time over which renewals are counted
            writes, reads, renewals, sent = self.counts(list(server.log))
            due = 3 * (time.monotonic() - began) / (ttl_ms / 3000)
            self.assertEqual((writes, reads, sent), (0, 0, renewals), "idle databases cost nothing")
            self.assertAlmostEqual(renewals, due, delta=0.25 * due)
            server.log.clear()
            for i in range(batches):
                self.assertEqual(leader.client.kv("PUT", "app", f"k{i}", "v").status, 200)
                time.sleep(0.02)  # the interval of the batches: a sweep ends before the next begins
            wait_for("the last sweep", 30, lambda: self.swept(server, batches))
            wait_for("nothing but renewals", 20, lambda: self.quiet(server))
            writes, reads, _, _ = self.counts(list(server.log))
        report = self.doctor("--store", "mem:", "--batch-interval-ms", "1000", "--snapshot-slots", str(slots), "--nodes", "3")
        estimate = report["estimate"]
        probe = 90  # runs of the daily probe, which are not part of this
        expected_writes = (estimate["storage_puts"] - probe * 1830) / estimate["batches"] * batches
        expected_reads = (estimate["storage_gets"] - probe * 545) / estimate["batches"] * batches
        self.assertAlmostEqual(writes, expected_writes, delta=0.15 * expected_writes)
        self.assertAlmostEqual(reads, expected_reads, delta=0.15 * expected_reads)

    def quiet(self, server):
        before = self.counts(list(server.log))[:2]
        time.sleep(1)
        return before == self.counts(list(server.log))[:2]

    def swept(self, server, batches):
        logs = [name for name in list(server.objects) if "/log/" in name]
        return len(logs) < batches / 4

    def test_the_probe_costs_what_the_estimate_says(self):
        report = self.doctor("--store", self.s3.url, "--rounds", "10", env=self.s3.credentials)
        sent = report["storage"]["sent"]
        # 10 rounds: 3 writes and 3 reads each, 1 list, 1 batch of deletions; and the first question.
        self.assertAlmostEqual(sent["puts"] - 32, 1830, delta=20)
        self.assertAlmostEqual(sent["gets"] - 31, 545, delta=20)


class CommandLine(DoctorTest):
    def test_what_can_never_work_is_said_at_once(self):
        for words, args in (("needs --store", ()), ("one argument too many", ("--store", "mem:", "x")),
                            ("no option", ("--store", "mem:", "--frob")), ("not a number", ("--store", "mem:", "--nodes", "0")),
                            ("scheme s4", ("--store", "s4://x")), ("scheme gopher", ("--lease", "gopher://x"))):
            self.assertIsNone(self.doctor(*args, code=USAGE))
            self.assertIn(words, self.words)

    def test_secrets_in_urls_are_not_shown(self):
        url = f"redis://:hunter2@127.0.0.1:{minio.free_port()}"
        report = self.doctor("--lease", url, code=UNAVAILABLE, secrets=["hunter2"])
        self.assertIn("redis://***@127.0.0.1", report["settings"]["options"])


if __name__ == "__main__":
    main()
