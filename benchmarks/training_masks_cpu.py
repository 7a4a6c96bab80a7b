# SPDX-License-Identifier: Apache-2.0
"""How fast `ex4d train prepare` makes samples on one core, and on several.

    python benchmarks/training_masks_cpu.py [--workers 2]

The sample plate with its true depth: 49 frames at 512 x 512. Steps are timed on one thread and given in processor time,
which a shared machine disturbs less than the clock; the last table is the command's own work by the clock, one sample
per process at a time, and says little unless the machine is idle. Depth models are not in it: their speed is their own.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ex4d.camera import pinhole_intrinsics
from ex4d.depth.finding import DepthRequest, find_depth
from ex4d.raster.cpu import CpuRasteriser
from ex4d.training.jitter import jittered, random_jitter
from ex4d.training.masks import cleaned, rendering_masks
from ex4d.training.options import PrepareOptions
from ex4d.training.paths import random_path
from ex4d.training.prepare import prepare
from ex4d.training.records import Record
from ex4d.training.sample import CLEANED_PX, Task, make_sample
from ex4d.training.shards import write_sample
from ex4d.training.tracking_masks import random_holes, tracking_masks
from ex4d.video import read_video

SAMPLE = Path(__file__).resolve().parents[1] / "examples" / "sample"
DEPTH = {"depth": "file", "depth_file": "{folder}/depth.mkv", "depth_kind": "inverse"}


def processor_s(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def print_steps(runs: int) -> None:
    cv2.setNumThreads(1)
    clip = read_video(SAMPLE / "plate.mp4")
    found = find_depth(clip, DepthRequest("file", SAMPLE / "depth.mkv", "inverse"))
    count, height, width = clip.frames.shape[:3]
    lens = pinhole_intrinsics(497.8, width, height)
    backend = CpuRasteriser(threads=1)
    holes = random_holes(np.random.default_rng(0), width, height, count)
    jitter = random_jitter(np.random.default_rng(0), count, 4)
    paths = [random_path(seed, found.depth[0], lens, count).cameras for seed in range(runs + 1)]
    seen, _ = rendering_masks(clip.frames, found.depth, lens, paths[0], backend, found.sky)
    record = Record(
        "0" * 16, "", str(clip.fps), count, width, height, "rendering", 0, {}, {}, "", "", 0, *(None,) * 3, {}
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        options = {
            kind: PrepareOptions(**DEPTH, raster="cpu", shares={kind: 1.0})
            for kind in ("rendering", "tracking", "both")
        }
        steps: dict[str, Callable[[int], object]] = {
            "read the video": lambda _: read_video(SAMPLE / "plate.mp4"),
            "rendering mask": lambda n: rendering_masks(clip.frames, found.depth, lens, paths[n], backend, found.sky),
            "tracking mask": lambda _: tracking_masks(clip.frames, holes),
            "clean and jitter": lambda _: jittered(cleaned(seen, CLEANED_PX), jitter),
            "write target and mask": lambda _: write_sample(out / "a.tar", record, clip.frames, seen),
        }
        for kind, how in options.items():
            steps[f"**whole sample, {kind}**"] = lambda n, how=how: make_sample(
                Task(SAMPLE / "plate.mp4", "0", 0, n), how, out / "b.tar", out / "b.jpg"
            )
        print("| step | frames per second and core | ms per frame | lowest..highest |\n|---|---|---|---|")
        for name, work in steps.items():
            work(0)  # compiled, caches warm
            each = [processor_s(lambda n=n, work=work: work(n)) / count * 1e3 for n in range(1, runs + 1)]
            middle = statistics.median(each)
            print(f"| {name} | {1e3 / middle:.1f} | {middle:.1f} | {min(each):.1f}..{max(each):.1f} |", flush=True)


def print_workers(workers: list[int], samples: int) -> None:
    print("\n| processes | samples | seconds | frames per second |\n|---|---|---|---|")
    for count in workers:
        with tempfile.TemporaryDirectory() as folder:
            options = PrepareOptions(**DEPTH, raster="cpu", variants=samples)
            start = time.perf_counter()
            prepare([SAMPLE / "plate.mp4"], Path(folder) / "dataset", options, workers=count)
            seconds = time.perf_counter() - start
        print(f"| {count} | {samples} | {seconds:.1f} | {samples * 49 / seconds:.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each step")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="process counts to try; none to skip")
    parser.add_argument("--samples", type=int, default=4, help="for each of them")
    asked = parser.parse_args()
    load = f"load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else "load unknown"
    print(f"{platform.machine()}, {os.cpu_count()} cores, {load}, Python {platform.python_version()}\n")
    print_steps(asked.runs)
    if asked.workers:
        print_workers(asked.workers, asked.samples)
