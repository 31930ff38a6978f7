#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The main job over http://, while the storage server is killed and started again under it: nothing that was acknowledged is lost."""
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

from e2e import HADB, ROOT, main
from rest import TOKEN, Service

KILL_EVERY_S = 2.5  # the pace of the faults, not a wait for something


class MainJob(unittest.TestCase):
    def test_it_holds_though_the_storage_server_dies_again_and_again(self):
        folder = tempfile.mkdtemp(prefix="hadb-history-")
        self.addCleanup(shutil.rmtree, folder, True)
        service = Service(self, "storage-server", "--store", "file://" + folder)
        job = subprocess.Popen([sys.executable, os.path.join(ROOT, "scripts", "mainjob.py"), "--binary", HADB, "--seconds",
                                "8", "--store", f"http://{TOKEN}@{service.address}"],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        over = threading.Event()
        kills = []

        def torment():
            while not over.wait(KILL_EVERY_S):
                service.restart()
                kills.append(1)

        thread = threading.Thread(target=torment)
        limit = threading.Timer(90, job.terminate)
        thread.start()
        limit.start()
        out = ""
        for line in job.stdout:
            out += line
            if "writers at rest" in line:  # hadb restore, which comes later, does not try again
                over.set()
        over.set()
        thread.join()
        limit.cancel()
        job.stdout.close()
        print(out)
        self.assertEqual(job.wait(30), 0, out)
        self.assertIn("all of it holds", out)
        self.assertGreaterEqual(len(kills), 2)


if __name__ == "__main__":
    main()
