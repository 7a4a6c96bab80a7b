# SPDX-License-Identifier: Apache-2.0
"""A real Ray cluster of one node for the tests, in processes that end with it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile

import psutil
from conftest import HERE, PATIENCE_S, until

GPUS = 2  # which the node only claims to have


class RayCluster:
    """A cluster's head."""

    def __init__(self, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._folder = tempfile.mkdtemp(prefix="ray")  # a short path: it holds sockets
        path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
        self._environment = {**os.environ, **environment, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--no-monitor"]
        command += ["--include-dashboard=false", "--include-log-monitor=false", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", f"--port={self.address.partition(':')[2]}"]
        command += ["--num-cpus=4", f"--num-gpus={GPUS}", "--object-store-memory=100000000"]
        command.append(f"--temp-dir={self._folder}")
        self.process = subprocess.Popen(
            command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._has_a_node, "the cluster's start")

    def kill(self) -> None:
        """As if the power failed."""
        with contextlib.suppress(psutil.NoSuchProcess):
            head = psutil.Process(self.process.pid)
            for process in [*head.children(recursive=True), head]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _has_a_node(self) -> bool:
        look = [sys.executable, "-m", "ex4d.ray_cluster", self.address]
        told = subprocess.run(look, env=self._environment, capture_output=True, text=True, check=True).stdout
        return bool(json.loads(told).get("nodes"))
