# SPDX-License-Identifier: Apache-2.0
"""Jobs for tests: what a worker may be asked to bear. Loaded by the worker process through --job-runner."""

import errno
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ex4d.errors import DepthError
from ex4d.progress import Progress, ProgressCallback

Params = Mapping[str, Any]
Files = dict[str, Path]


def run_job(kind: str, params: Params, inputs: Files, workdir: Path, progress: ProgressCallback) -> Files:
    """The kind names one of the functions below."""
    return globals()[f"_{kind}"](params, inputs, workdir, progress)


def _copy(
    params: Mapping[str, Any], inputs: dict[str, Path], workdir: Path, progress: ProgressCallback
) -> dict[str, Path]:
    outputs = {}
    for role, path in inputs.items():
        progress(Progress("Copying", 0, 1))
        assert path.suffix == params.get("suffix", path.suffix)
        outputs[role] = workdir / f"copy_of_{role}"
        outputs[role].write_bytes(path.read_bytes())
        progress(Progress("Copying", 1, 1))
    print("printing must not disturb the pipe")
    return outputs


def _steps(
    params: Mapping[str, Any], inputs: dict[str, Path], workdir: Path, progress: ProgressCallback
) -> dict[str, Path]:
    marks = Path(params["marks"]) if "marks" in params else None
    if marks:
        with marks.open("a") as file:
            file.write(f"{os.getpid()}\n")
    for stage in params.get("stages", ["Working"]):
        for i in range(params["n"] + 1):
            progress(Progress(stage, i, params["n"], 0.5))
            time.sleep(params.get("step_s", 0.01))
    output = workdir / "result.txt"
    output.write_text("finished")
    return {"result.txt": output}


def _paint(
    params: Mapping[str, Any], inputs: dict[str, Path], workdir: Path, progress: ProgressCallback
) -> dict[str, Path]:
    """Reports with a picture at every step."""
    for i in range(params["n"] + 1):
        picture = np.full((480, 1024, 3), (0, 255 * i // params["n"], 255), np.uint8)
        progress(Progress("Painting", i, params["n"], preview=picture))
        time.sleep(params.get("step_s", 0.01))
    return {}


def _deaf(
    params: Mapping[str, Any], inputs: dict[str, Path], workdir: Path, progress: ProgressCallback
) -> dict[str, Path]:
    progress(Progress("Not listening", 0, 1))
    time.sleep(params["s"])
    return {}


def _die(
    params: Mapping[str, Any], inputs: dict[str, Path], workdir: Path, progress: ProgressCallback
) -> dict[str, Path]:
    """Dies the first `times` times; the marks outlive the process."""
    progress(Progress("Dying", 0, 1))
    marks = Path(params["marks"])
    with marks.open("a") as file:
        file.write("x")
    if len(marks.read_text()) <= params["times"]:
        os._exit(9)
    return {}


def _raise(
    params: Mapping[str, Any], inputs: dict[str, Path], workdir: Path, progress: ProgressCallback
) -> dict[str, Path]:
    if params["what"] == "depth":
        raise DepthError("The depth has 3 frames, the plate has 4. Give one depth frame for each.")
    if params["what"] == "disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if params["what"] == "memory":
        raise MemoryError
    return 1 / 0  # type: ignore[return-value]


def _escape(
    params: Mapping[str, Any], inputs: dict[str, Path], workdir: Path, progress: ProgressCallback
) -> dict[str, Path]:
    return {"shot.json": Path(__file__)}


def _hang(
    params: Mapping[str, Any], inputs: dict[str, Path], workdir: Path, progress: ProgressCallback
) -> dict[str, Path]:
    """Stops its own process the first time, as a stuck driver would."""
    marks = Path(params["marks"])
    if not marks.exists():
        marks.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return {}


def _device(
    params: Mapping[str, Any], inputs: dict[str, Path], workdir: Path, progress: ProgressCallback
) -> dict[str, Path]:
    """Tells which GPU it sees, and waits until all its fellows have told."""
    told = Path(params["folder"])
    (told / os.environ.get("CUDA_VISIBLE_DEVICES", "none")).touch()
    while len(list(told.iterdir())) < params["fellows"]:
        progress(Progress("Waiting for the others", 0, 0))
        time.sleep(0.02)
    return {}


def _take(
    params: Mapping[str, Any], inputs: dict[str, Path], workdir: Path, progress: ProgressCallback
) -> dict[str, Path]:
    """Tells which GPUs it was given, and goes on until it may stop."""
    told, stop = Path(params["folder"]) / params["name"], Path(params["folder"]) / f"stop-{params['name']}"
    told.write_text(f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'none')} {os.getpid()}")
    while not stop.exists():
        progress(Progress("Painting", 1, 2))
        time.sleep(0.02)
    return {}


_render = _take
