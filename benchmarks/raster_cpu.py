# SPDX-License-Identifier: Apache-2.0
"""The CPU rasteriser against what a user would take instead, on the sample plate, in one run.

    python3 dev.py bench

All draw the same mesh (exact convention) from the sample's second camera. Ours gets a new mesh for every frame, as a
take has it; its reference convention draws the release's mesh. moderngl draws on Mesa's llvmpipe with the same
triangles: new vertex positions are uploaded, colour, mask and depth are read back. pytinyrenderer, a software
renderer from the package index, draws a mesh that is already set up (setting it up from Python lists takes seconds),
without a mask. Figures are medians; the machine is shared in most places where this runs, so the ratios within one
run count.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ex4d.camera import CameraPath, read_camera_path
from ex4d.depth.file_formats import read_depth_file
from ex4d.mesh import DWMesh, far_depth, watertight_mesh
from ex4d.raster.cpu import CpuRasteriser
from ex4d.video import read_video

SAMPLE = Path(__file__).resolve().parents[1] / "examples" / "sample"
SIZES = ((512, 512), (1024, 1024), (1920, 1080))

PEAK = """
import sys
from pathlib import Path
import numpy as np
from ex4d.camera import pinhole_intrinsics
from ex4d.mesh import watertight_mesh
from ex4d.raster.cpu import CpuRasteriser
depth = np.random.default_rng(0).uniform(2, 3, (1080, 1920)).astype(np.float32)
lens, plate, ours = pinhole_intrinsics(1500, 1920, 1080), np.zeros((1080, 1920, 3), np.uint8), CpuRasteriser()
for n in range(3):
    ours.render(watertight_mesh(depth, lens, sys.argv[1]), plate, np.eye(4), lens, 1920, 1080)
status = Path("/proc/self/status").read_text(encoding="utf-8")  # Linux
print(int(status.split("VmHWM:")[1].split()[0]) // 1000)
"""

VERTEX_SHADER = """
#version 330
uniform mat4 view; uniform vec4 lens; uniform vec2 size; uniform vec2 plate;
in vec3 position; in vec2 pixel; in float shows;
out vec2 uv; out float visible;
void main() {
    vec4 p = view * vec4(position, 1.0);
    gl_Position = vec4((lens.x * p.x + lens.z * p.z) / size.x * 2.0 - p.z,
                       (lens.y * p.y + lens.w * p.z) / size.y * 2.0 - p.z, p.z - 2e-3, p.z);
    uv = pixel / plate; visible = shows;
}
"""
FRAGMENT_SHADER = """
#version 330
uniform sampler2D plate_picture;
in vec2 uv; in float visible; out vec4 color;
void main() { color = visible > 0.999 ? vec4(texture(plate_picture, uv).rgb, 1.0) : vec4(0.0); }
"""


class ModernGL:
    """The same triangles through OpenGL in software."""

    def __init__(self, mesh: DWMesh, texture: np.ndarray, width: int, height: int) -> None:
        import moderngl

        self.context = moderngl.create_standalone_context(backend="egl")
        self.name = f"moderngl on {self.context.info['GL_RENDERER'].split()[0]}"
        self.context.enable(moderngl.DEPTH_TEST)
        program = self.context.program(vertex_shader=VERTEX_SHADER, fragment_shader=FRAGMENT_SHADER)
        self.program = program
        pixels = np.stack(np.meshgrid(mesh.u, mesh.v), -1).astype("f4")
        self.positions = self.context.buffer(reserve=mesh.depth.size * 12)
        buffers = [
            (self.positions, "3f", "position"),
            (self.context.buffer(pixels.tobytes()), "2f", "pixel"),
            (self.context.buffer(mesh.vertex_alpha.tobytes()), "1f", "shows"),
        ]
        self.array = self.context.vertex_array(program, buffers, self.context.buffer(mesh.faces.tobytes()))
        picture = self.context.texture((texture.shape[1], texture.shape[0]), 3, texture.tobytes(), alignment=1)
        picture.use(0)
        self.target = self.context.framebuffer(
            [self.context.texture((width, height), 4)], self.context.depth_texture((width, height))
        )
        program["size"].value = (width, height)
        program["plate"].value = (texture.shape[1], texture.shape[0])
        self.size = (width, height)

    def render(self, mesh: DWMesh, world_to_camera: np.ndarray, intrinsics: np.ndarray) -> tuple[np.ndarray, ...]:
        width, height = self.size
        self.positions.write(mesh.points.tobytes())
        self.program["view"].write(np.ascontiguousarray(world_to_camera.T, dtype="f4").tobytes())
        self.program["lens"].value = tuple(intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]])
        self.target.use()
        self.target.clear()
        self.array.render()
        rgba = np.frombuffer(self.target.read(components=4), np.uint8).reshape(height, width, 4)
        depth = np.frombuffer(self.target.depth_attachment.read(), np.float32).reshape(height, width)
        return rgba[..., :3], rgba[..., 3] > 127, depth


class TinyRenderer:
    """The software renderer of the package index that takes a triangle mesh from Python."""

    name = "pytinyrenderer"

    def __init__(self, mesh: DWMesh, texture: np.ndarray, width: int, height: int) -> None:
        import pytinyrenderer as tiny

        self.scene, self.light = tiny.TinySceneRenderer(), tiny.TinyRenderLight()
        pixels = np.stack(np.meshgrid(mesh.u / texture.shape[1], mesh.v / texture.shape[0]), -1)
        normals = np.tile([0.0, 0.0, -1.0], (mesh.depth.size, 1))
        flat = [array.ravel().tolist() for array in (mesh.points, normals, pixels, mesh.faces, texture)]
        shape = self.scene.create_mesh(*flat, texture.shape[1], texture.shape[0], 1.0)
        self.instance = [self.scene.create_object_instance(shape)]
        self.camera_type, self.size = tiny.TinyRenderCamera, (width, height)

    def render(self, mesh: DWMesh, world_to_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
        width, height = self.size
        view = np.diag([1.0, -1.0, -1.0, 1.0]) @ world_to_camera
        near, far = 0.1, 200.0
        projection = np.zeros((4, 4))
        projection[0, 0], projection[1, 1] = 2 * intrinsics[0, 0] / width, 2 * intrinsics[1, 1] / height
        projection[2, 2:] = -(far + near) / (far - near), -2 * far * near / (far - near)
        projection[3, 2] = -1
        camera = self.camera_type(width, height, view.T.ravel().tolist(), projection.T.ravel().tolist())
        return np.array(self.scene.get_camera_image(self.instance, self.light, camera).rgb, np.uint8)


def timed(work: Callable[[int], object], frames: range) -> list[float]:
    """Milliseconds of each frame, after two that pay for compilation and cold caches."""
    for frame in frames[:2]:
        work(frame)
    spent = []
    for frame in frames:
        start = time.perf_counter()
        work(frame)
        spent.append(1e3 * (time.perf_counter() - start))
    return spent


def measure(width: int, height: int, frame_count: int) -> dict[str, list[float]]:
    """Time every contender at one size."""
    clip = read_video(SAMPLE / "plate.mp4", 0, frame_count).frames
    inverse = read_depth_file(SAMPLE / "depth.mkv", "z", 0, frame_count).values
    frames = np.stack([cv2.resize(frame, (width, height)) for frame in clip])
    depth = np.stack([cv2.resize((1 / z).astype(np.float32), (width, height)) for z in inverse])
    cameras: CameraPath = read_camera_path(SAMPLE / "second_camera.npz")
    lens = cameras.intrinsics[0] * np.array([[width / 512], [width / 512], [1]])
    lens[:2, 2] = width / 2, height / 2
    far = far_depth(depth)
    meshes = [watertight_mesh(plane, lens, "exact", far) for plane in depth]
    ours = CpuRasteriser()
    step = len(cameras) // frame_count
    pose = cameras.world_to_camera

    def draw(n: int, meshes: list[DWMesh] = meshes) -> object:
        return ours.render(meshes[n], frames[n], pose[n * step], lens, width, height)

    released = [watertight_mesh(plane, lens, "reference") for plane in depth]
    results = {
        "mesh": timed(lambda n: watertight_mesh(depth[n], lens, "exact", far), range(frame_count)),
        "ex4d cpu": timed(draw, range(frame_count)),
        "ex4d cpu, reference convention": timed(lambda n: draw(n, released), range(frame_count)),
    }
    rivals: list[type[ModernGL] | type[TinyRenderer]] = [ModernGL, TinyRenderer] if width <= 512 else [ModernGL]
    for rival in rivals:
        other = rival(meshes[0], frames[0], width, height)
        shown = range(frame_count if rival is ModernGL else min(frame_count, 5))
        results[other.name] = timed(lambda n, other=other: other.render(meshes[n], pose[n * step], lens), shown)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24, help="frames per contender (default 24)")
    frame_count = parser.parse_args().frames
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| size | what | median ms | 10th..90th percentile | of ours |\n|---|---|---|---|---|")
    for width, height in SIZES:
        results = measure(width, height, frame_count)
        ours = statistics.median(results["ex4d cpu"])
        for name, spent in results.items():
            low, high = np.percentile(spent, [10, 90])
            median = statistics.median(spent)
            ratio = "" if name == "mesh" else f"{median / ours:.1f}x"
            print(f"| {width}x{height} | {name} | {median:.1f} | {low:.1f}..{high:.1f} | {ratio} |", flush=True)
    for convention in ("exact", "reference"):
        peak = subprocess.run([sys.executable, "-c", PEAK, convention], check=True, capture_output=True, text=True)
        print(f"\nPeak memory of a process that meshes and draws 1920x1080, {convention}: {peak.stdout.strip()} MB")


if __name__ == "__main__":
    main()
