# SPDX-License-Identifier: Apache-2.0
"""Render the sample's frames and their exact depth with Cycles on the CPU, into a folder of PNG and .npy files."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from . import cameras
from .world import World

# OpenCV camera axes -> Blender camera axes, and the source camera's frame -> Blender's world (Z up).
FLIP_AXES = np.diag([1.0, -1.0, -1.0, 1.0])
TO_BLENDER = np.array(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, cameras.EYE_HEIGHT_M], [0.0, 0.0, 0.0, 1.0]]
)
# Wide enough for Cycles to accept, narrow enough that the only sample sits on the pixel's centre.
DEPTH_FILTER_PX = 0.01


def render_sample(folder: Path, samples: int) -> None:
    """Write plate_FFFF.png, truth_FFFF.png and a depth .npy (float32 z [H, W], metres) beside each of them."""
    folder.mkdir(parents=True, exist_ok=True)
    world = World()
    scene = bpy.context.scene
    add_camera(scene)
    still = np.eye(4)
    jobs = [("plate", i, still) for i in range(cameras.FRAME_COUNT)]
    path = cameras.second_camera()
    jobs += [("truth", i, path[i]) for i in cameras.TRUTH_FRAMES]

    set_up_colour(scene, samples)
    for name, frame, pose in announced(jobs, "colour"):
        aim(scene, world, frame, pose)
        scene.render.filepath = str(folder / f"{name}_{frame:04d}.png")
        bpy.ops.render.render(write_still=True)

    set_up_depth(scene)
    scratch = folder / "depth.exr"
    for name, frame, pose in announced(jobs, "depth"):
        aim(scene, world, frame, pose)
        scene.render.filepath = str(scratch)
        bpy.ops.render.render(write_still=True)
        np.save(folder / f"{name}_depth_{frame:04d}.npy", read_depth(scratch))
    scratch.unlink()


def announced(jobs: list[tuple[str, int, np.ndarray]], what: str) -> Iterable[tuple[str, int, np.ndarray]]:
    """The jobs, one after the other, each with a line about the time."""
    for number, job in enumerate(jobs, start=1):
        started = time.perf_counter()
        yield job
        print(f"{what} {number}/{len(jobs)}: {job[0]} {job[1]}, {time.perf_counter() - started:.1f} s", file=sys.stderr)


def add_camera(scene: bpy.types.Scene) -> None:
    """The one camera object that takes both cameras' places."""
    lens = bpy.data.cameras.new("camera")
    lens.sensor_fit, lens.sensor_width, lens.lens = "HORIZONTAL", cameras.SENSOR_WIDTH_MM, cameras.LENS_MM
    lens.clip_start, lens.clip_end = 0.05, 1000.0
    scene.camera = bpy.data.objects.new("camera", lens)
    scene.collection.objects.link(scene.camera)


def aim(scene: bpy.types.Scene, world: World, frame: int, world_to_camera: np.ndarray) -> None:
    """Put the scene at its frame and the camera at its pose."""
    world.pose(frame / cameras.FPS)
    scene.camera.matrix_world = Matrix(TO_BLENDER @ np.linalg.inv(world_to_camera) @ FLIP_AXES)


def set_up_colour(scene: bpy.types.Scene, samples: int) -> None:
    """Short light paths, a fixed seed, and Open Image Denoise guided by albedo and normals."""
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = cameras.WIDTH, cameras.HEIGHT
    scene.render.resolution_percentage = 100
    scene.render.use_persistent_data = True
    scene.render.use_motion_blur = False
    scene.render.dither_intensity = 0.0
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"
    scene.view_settings.exposure = 0.15
    cycles = scene.cycles
    cycles.device, cycles.seed, cycles.samples, cycles.use_adaptive_sampling = "CPU", 0, samples, False
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 2, 1, 1
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
    cycles.denoising_input_passes, cycles.denoising_prefilter = "RGB_ALBEDO_NORMAL", "ACCURATE"


def set_up_depth(scene: bpy.types.Scene) -> None:
    """Every surface glows with its distance along the view axis; one sample through each pixel's centre."""
    material = bpy.data.materials.new("depth")
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    glow, out = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(tree.nodes.new("ShaderNodeCameraData").outputs["View Z Depth"], glow.inputs["Color"])
    tree.links.new(glow.outputs["Emission"], out.inputs["Surface"])
    material.cycles.emission_sampling = "NONE"
    bpy.context.view_layer.material_override = material
    cycles = scene.cycles
    cycles.samples, cycles.use_denoising, cycles.max_bounces = 1, False, 0
    cycles.pixel_filter_type, cycles.filter_width = "BOX", DEPTH_FILTER_PX
    scene.view_settings.view_transform, scene.view_settings.look = "Raw", "None"
    scene.view_settings.exposure = 0.0
    scene.render.image_settings.file_format, scene.render.image_settings.color_depth = "OPEN_EXR", "32"


def read_depth(path: Path) -> np.ndarray:
    """The red channel of an EXR, top row first. float32 [H, W]"""
    image = bpy.data.images.load(str(path))
    try:
        pixels = np.empty(cameras.WIDTH * cameras.HEIGHT * 4, np.float32)
        image.pixels.foreach_get(pixels)
    finally:
        bpy.data.images.remove(image)
    return np.ascontiguousarray(pixels.reshape(cameras.HEIGHT, cameras.WIDTH, 4)[::-1, :, 0])
