# SPDX-License-Identifier: Apache-2.0
"""`ex4d train prepare --ray`: the same dataset as processes of this machine make, also after it was stopped."""

import hashlib
import importlib.util
import json
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
from conftest import PATIENCE_S

from ex4d.training.making import PARTS
from ex4d.video import write_video

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'ex4d[ray]'"
)
PREPARE = [sys.executable, "-m", "ex4d", "train", "prepare"]
SMALL = ["--frames=5", "--size=64x48", "--shard-samples=3", "--variants=2"]


@pytest.fixture
def footage(tmp_path):
    folder = tmp_path / "footage"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in "ab":
        ground = random.integers(0, 255, (48, 96, 3), np.uint8).repeat(4, axis=0)[:48]
        write_video(folder / f"{name}.mkv", np.stack([ground[:, n : n + 64] for n in range(10)]), Fraction(24), "ffv1")
    dark = np.zeros((5, 48, 64, 3), np.uint8)
    write_video(folder / "cut.mkv", np.concatenate([dark[:2], dark[2:] + 255]), Fraction(24), "ffv1")
    return folder


def prepare(*arguments):
    return subprocess.run([*PREPARE, *map(str, arguments)], capture_output=True, text=True, check=False)


def sums(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_cluster_makes_the_same_bytes_also_after_it_was_stopped(home, ray_cluster, footage, tmp_path):
    local = prepare(footage, "--out", tmp_path / "local", *SMALL)
    assert local.returncode == 0, local.stderr
    far = tmp_path / "far"
    command = [*PREPARE, str(footage), "--out", str(far), *SMALL, "--ray", ray_cluster.address]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 2 * PATIENCE_S
    while process.poll() is None and not list((far / PARTS).glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    again = prepare(footage, "--out", far, *SMALL, "--ray", ray_cluster.address, "--json")
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert (told["samples"], "it has a cut" in str(told["skipped"])) == (8, True)
    left = {name: sum_ for name, sum_ in sums(far).items() if not name.startswith(PARTS)}
    assert left == sums(tmp_path / "local")


def test_a_folder_that_the_nodes_do_not_see_is_named(home, ray_cluster, footage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # under the path below each process sees another folder
    refused = prepare(footage, "--out", "/proc/self/cwd/dataset", *SMALL, "--ray", ray_cluster.address)
    assert (refused.returncode, "does not see" in refused.stderr) == (3, True), refused.stderr
