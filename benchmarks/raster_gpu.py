# SPDX-License-Identifier: Apache-2.0
"""The native rasteriser against nvdiffrast, which the EX-4D release draws with, on the sample plate, in one run.

    pip install 'ex4d[gpu]' && python benchmarks/raster_gpu.py

One frame: the depth map of a frame and its plate lie on the device; positions, rasterisation and shading (nvdiffrast:
interpolation and antialiasing) are timed with CUDA events, each frame with its own mesh and camera. Whole conditioning:
a clip's depth on the device, frames of the plate, colour, mask and depth on the host, by the clock. First result: a new
process, imports included, without and with what Triton keeps on disk. Figures are medians.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from ex4d.camera import Array, CameraPath, Convention, read_camera_path
from ex4d.depth.file_formats import read_depth_file
from ex4d.errors import MachineError
from ex4d.mesh import far_depth, watertight_mesh
from ex4d.raster.native import NativeRasteriser
from ex4d.raster.native_mesh import Meshes, device_meshes
from ex4d.video import read_video

SAMPLE = Path(__file__).resolve().parents[1] / "examples" / "sample"
SIZES = ((512, 512), (1920, 1080))
FRAMES = 49  # the model's window
FIRST = """
import numpy as np
from ex4d.camera import pinhole_intrinsics
from ex4d.mesh import watertight_mesh
from ex4d.raster.native import NativeRasteriser
lens = pinhole_intrinsics(60, 64, 64)
mesh = watertight_mesh(np.full((64, 64), 2, np.float32), lens, "exact")
NativeRasteriser().render(mesh, np.zeros((64, 64, 3), np.uint8), np.eye(4), lens, 64, 64)
"""


def sample(width: int, height: int) -> tuple[Array, Array, Array, CameraPath]:
    """The sample's frames, depth and lens at a size, and a path through it that ends at its second camera."""
    clip = read_video(SAMPLE / "plate.mp4").frames
    depth = 1 / read_depth_file(SAMPLE / "depth.mkv", "z", 0, len(clip)).values
    turn = np.arange(FRAMES) % len(clip)
    frames = np.stack([cv2.resize(clip[n], (width, height)) for n in turn])
    planes = np.stack([cv2.resize(depth[n].astype(np.float32), (width, height)) for n in turn])
    cameras = read_camera_path(SAMPLE / "second_camera.npz")
    lens = cameras.intrinsics[0] * np.array([[width / 512], [width / 512], [1]])
    lens[:2, 2] = width / 2, height / 2
    poses = cameras.world_to_camera[np.linspace(0, len(cameras) - 1, FRAMES).astype(int)]
    return frames, planes, lens, CameraPath(poses, np.repeat(lens[None], FRAMES, 0), width, height, np.arange(FRAMES))


def device_ms(work: Callable[[int], object], count: int = 4 * FRAMES) -> list[float]:
    """Milliseconds of each frame between two events on the device, after a warm-up."""
    for n in range(10):
        work(n % FRAMES)
    torch.cuda.synchronize()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(count)]
    for n, (begin, end) in enumerate(events):
        begin.record()
        work(n % FRAMES)
        end.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) for begin, end in events]


def clock_ms(work: Callable[[], object], count: int = 9) -> list[float]:
    """Milliseconds by the clock, after a warm-up."""
    spent = []
    for _ in range(2 + count):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        spent.append(1e3 * (time.perf_counter() - start))
    return spent[2:]


def row(what: str, spent: list[float], share: int = 1) -> None:
    low, middle, high = np.percentile(spent, [10, 50, 90]) / share
    print(f"| {what} | {middle:.3f} | {low:.3f}..{high:.3f} |", flush=True)


def one_frame(width: int, height: int, convention: Convention) -> None:
    frames, depth, lens, path = sample(width, height)
    native, far = NativeRasteriser(), far_depth(depth)
    on_device = torch.from_numpy(depth).cuda()
    plates, meshes = torch.from_numpy(frames).cuda(), device_meshes(on_device, lens, convention, far)
    alone = [one_of(meshes, n) for n in range(FRAMES)]
    views = [
        native.views(lens, path.world_to_camera[n : n + 1], path.intrinsics[n : n + 1], np.zeros(1), width, height)
        for n in range(FRAMES)
    ]
    size = f"{width}x{height} {convention}"
    row(f"{size}: native, one frame per call", device_ms(lambda n: native.draw(alone[n], plates[n : n + 1], views[n])))
    graphs = [graph(lambda n=n: native.draw(alone[n], plates[n : n + 1], views[n])) for n in range(FRAMES)]
    row(f"{size}: native, one frame per CUDA graph", device_ms(lambda n: graphs[n].replay()))
    chunk = max(1, min(FRAMES, (1 << 22) // (width * height)))
    together = native.views(
        lens, path.world_to_camera[:chunk], path.intrinsics[:chunk], np.arange(chunk), width, height
    )
    row(
        f"{size}: native, per frame of {chunk} together",
        device_ms(lambda _: native.draw(meshes, plates, together)),
        chunk,
    )
    row(f"{size}: native, mesh per frame of {FRAMES}", mesh_ms(on_device, lens, convention, far), FRAMES)
    if convention == "reference":
        against_nvdiffrast(size, frames, depth, lens, path)


def one_of(meshes: Meshes, n: int) -> Meshes:
    alpha = meshes.alpha if meshes.exact else meshes.alpha[n : n + 1]
    return meshes._replace(depth=meshes.depth[n : n + 1], visible=meshes.visible[n : n + 1], alpha=alpha)


def mesh_ms(depth: torch.Tensor, lens: Array, convention: Convention, far: float) -> list[float]:
    return device_ms(lambda _: device_meshes(depth, lens, convention, far), 20)


def graph(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        work()
    return captured


def against_nvdiffrast(size: str, frames: Array, depth: Array, lens: Array, path: CameraPath) -> None:
    try:
        from ex4d.raster.nvdiffrast import NvdiffrastRasteriser, clip_matrix
    except MachineError as error:
        print(f"| {size}: nvdiffrast | - | {error} |")
        return
    other = NvdiffrastRasteriser()
    few = min(FRAMES, 8 if path.width > 512 else FRAMES)  # vertices, colours and faces of every frame take memory
    meshes = [watertight_mesh(plane, lens, "reference") for plane in depth[:few]]
    points = [torch.from_numpy(mesh.points.reshape(-1, 3)).cuda() for mesh in meshes]
    faces = torch.from_numpy(meshes[0].faces).cuda()
    colors = [
        torch.from_numpy(np.dstack([plate, np.full(plate.shape[:2], 255, np.uint8)]).reshape(-1, 4)).cuda().float()
        for plate in frames[:few]
    ]
    cameras = [
        torch.from_numpy((clip_matrix(lens, path.width, path.height) @ pose).astype(np.float32)).cuda()
        for pose in path.world_to_camera
    ]

    def draw(n: int) -> object:
        return other.draw(points[n % few], faces, colors[n % few], cameras[n], path.width, path.height)

    row(f"{size}: nvdiffrast, one frame per call", device_ms(draw))


def whole_conditioning(width: int, height: int, convention: Convention) -> None:
    frames, depth, lens, path = sample(width, height)
    native, far, on_device = NativeRasteriser(), far_depth(depth), torch.from_numpy(depth).cuda()
    plates = torch.from_numpy(frames).cuda()
    size = f"{width}x{height} {convention}, conditioning of {FRAMES}"
    row(
        f"{size}: plate and depth on the device",
        clock_ms(lambda: native.render_clip(plates, on_device, lens, convention, path, far)),
    )
    row(
        f"{size}: plate on the host, depth on the device",
        clock_ms(lambda: native.render_clip(frames, on_device, lens, convention, path, far)),
    )
    row(f"{size}: both on the host", clock_ms(lambda: native.render_clip(frames, depth, lens, convention, path, far)))


def first_results() -> None:
    with tempfile.TemporaryDirectory() as cache:
        for what in ("nothing kept", "kept by the first"):
            start = time.perf_counter()
            environment = {**os.environ, "TRITON_CACHE_DIR": cache}
            subprocess.run([sys.executable, "-c", FIRST], env=environment, check=True)
            row(f"first result of a process, {what}", [1e3 * (time.perf_counter() - start)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    versions = f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}"
    print(f"{torch.cuda.get_device_name()}, {versions}, {os.cpu_count()} cores\n")
    print("| what | median ms | 10th..90th percentile |\n|---|---|---|")
    first_results()
    for width, height in SIZES:
        one_frame(width, height, "exact")
        one_frame(width, height, "reference")
    for convention in ("exact", "reference"):
        whole_conditioning(512, 512, convention)


if __name__ == "__main__":
    main()
