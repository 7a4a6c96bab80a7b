# SPDX-License-Identifier: Apache-2.0
"""A take on all GPUs while nothing else waits, and each worker on its own again when others do."""

import os

import pytest
from conftest import is_gone, until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the fake driver is a shell script")

BOTH, FIRST, SECOND = "GPU-aaaa,GPU-bbbb", "GPU-aaaa", "GPU-bbbb"


class Studio:
    """Jobs that tell their GPUs and go on until they may end."""

    def __init__(self, server, folder) -> None:
        self.follower = server.follower()
        self._folder = folder
        self._jobs: dict[str, str] = {}
        folder.mkdir()

    def send(self, name, kind="take", **params) -> None:
        params |= {"folder": str(self._folder), "name": name}
        self._jobs[name] = self.follower.submit(kind, params)

    def gpus(self, name) -> str:
        """Wait until the job runs."""
        return until(lambda: self._told(name), f"the start of {name}")[0]

    def worker(self, name) -> int:
        return int(until(lambda: self._told(name), f"the start of {name}")[1])

    def waits(self, name) -> bool:
        return self._told(name) == []

    def end(self, *names) -> None:
        for name in names:
            (self._folder / f"stop-{name}").touch()
        for name in names:
            assert self.follower.wait(self._jobs[name]).name == "done"

    def _told(self, name) -> list[str]:
        path = self._folder / name
        words = path.read_text().split() if path.exists() else []
        return words if len(words) == 2 else []


@pytest.fixture
def studio(server, two_gpus, tmp_path):
    server.start()
    return Studio(server, tmp_path / "told")


def test_a_take_has_all_gpus_while_nothing_else_waits(studio):
    studio.send("one")
    assert studio.gpus("one") == BOTH
    devices = [worker.device for worker in studio.follower.client.status().workers]
    assert devices in (
        ["GPU 0+1: NVIDIA H200", "GPU 1: NVIDIA H200, lent"],
        ["GPU 0: NVIDIA H200, lent", "GPU 1+0: NVIDIA H200"],
    )
    studio.send("two")
    studio.follower.wait(studio._jobs["two"], lambda message: getattr(message, "message", "").startswith("1 job runs"))
    assert studio.waits("two")  # a job that runs keeps what it has
    studio.end("one")
    assert (studio.gpus("two"), studio.worker("two")) == (BOTH, studio.worker("one"))  # its models are still loaded
    studio.end("two")
    studio.send("three", "render")
    assert studio.worker("three") == studio.worker("one")
    studio.end("three")


def test_each_worker_has_its_own_again_when_jobs_wait(studio):
    studio.send("one")
    assert studio.gpus("one") == BOTH
    for name in ("two", "three", "four"):
        studio.send(name)
    studio.end("one")
    until(lambda: is_gone(studio.worker("one")), "the end of the worker with both")
    assert {studio.gpus("two"), studio.gpus("three")} == {FIRST, SECOND}
    studio.end("two", "three")
    assert studio.gpus("four") in (FIRST, SECOND)  # so soon after others waited, models are not loaded anew
    studio.end("four")


def test_what_cannot_be_shared_gets_one_gpu_and_leaves_the_other(studio):
    studio.send("one", engine="preview")
    studio.send("two", "render")
    assert {studio.gpus("one"), studio.gpus("two")} == {FIRST, SECOND}
    studio.send("three")
    studio.end("one")
    assert studio.gpus("three") in (FIRST, SECOND)  # the other one is busy
    studio.end("two", "three")


def test_lending_can_be_switched_off(server, two_gpus, tmp_path):
    server.start("--most-gpus", "1")
    studio = Studio(server, tmp_path / "told")
    studio.send("one")
    assert studio.gpus("one") in (FIRST, SECOND)
    studio.end("one")
