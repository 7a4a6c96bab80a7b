# SPDX-License-Identifier: Apache-2.0
"""Render the truth about two cameras of any Blender scene, for `ex4d evaluate --truth`.

    blender -b scene.blend -P examples/render_truth.py -- --second Camera.001 --out truth --frames 1:49

Colour is rendered with the scene's own settings. Depth is exact: a second pass with Cycles in which every surface glows
with its distance along the view axis, one sample through each pixel's centre. What is cut out by transparency, volumes
and the world count as the camera's clip end or as the surface that carries them. The folder then holds

plate/0000.png                     what the source camera films
depth.npz                          its z-depth, scene units. float32 [T, H, W]
truth/0000.png, truth_depth.npz    what the second camera sees in every --every-th of those frames
second_camera.npz                  where it stands, in the frame of the source camera's first frame (OpenCV)
source_camera.npz                  where the source camera stands, when it moves: give it to `ex4d reconstruct`
camera.json                        the source camera's lens, size and frame rate, and how to go on
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

import bpy
import numpy as np

FLIP_AXES = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenCV camera axes <-> Blender camera axes
DEPTH_FILTER_PX = 0.01  # wide enough for Cycles to accept, narrow enough that the sample sits on the pixel's centre
STILL = 1e-6  # a pose that changes less than this does not move


def render_truth(second: str, out: Path, frames: range, source: str | None = None, every: int = 1) -> None:
    """Render the open scene.

    Args:
        second: name of the second camera.
        out: folder to write.
        frames: the scene's frames.
        source: name of the camera that films the plate; None: the scene's.
        every: the second camera's pictures are rendered in every so many frames.
    """
    scene = bpy.context.scene
    filming = camera_named(source) if source else scene.camera
    if filming is None:
        raise SystemExit("The scene has no camera. Say which films the plate: --source NAME.")
    jobs = [("plate", filming, n) for n in range(len(frames))]
    jobs += [("truth", camera_named(second), n) for n in range(0, len(frames), every)]
    (out / "plate").mkdir(parents=True, exist_ok=True)
    (out / "truth").mkdir(exist_ok=True)
    write_cameras(out, filming, camera_named(second), frames)

    settings = scene.render
    settings.image_settings.file_format, settings.image_settings.color_mode = "PNG", "RGB"
    settings.image_settings.color_depth = "8"
    for name, camera, n in jobs:
        render(camera, frames[n], out / name / f"{n:04d}.png")
    set_up_depth(scene)
    depth: dict[str, list[np.ndarray]] = {"plate": [], "truth": []}
    scratch = out / "depth.exr"
    for name, camera, n in jobs:
        render(camera, frames[n], scratch)
        depth[name].append(read_depth(scratch, camera.data.clip_end))
    scratch.unlink()
    np.savez(out / "depth.npz", depth=np.stack(depth["plate"]))
    np.savez(out / "truth_depth.npz", depth=np.stack(depth["truth"]))


def camera_named(name: str) -> bpy.types.Object:
    """A camera of the scene, or a sentence that lists them."""
    found = bpy.data.objects.get(name)
    if found is None or found.type != "CAMERA":
        known = ", ".join(thing.name for thing in bpy.data.objects if thing.type == "CAMERA") or "none"
        raise SystemExit(f"There is no camera '{name}'. The scene has {known}.")
    return found


def render(camera: bpy.types.Object, frame: int, path: Path) -> None:
    """Render one frame into one file."""
    scene = bpy.context.scene
    scene.camera = camera
    scene.frame_set(frame)
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def write_cameras(out: Path, filming: bpy.types.Object, second: bpy.types.Object, frames: range) -> None:
    """Write the poses and lenses of both cameras as the library reads them."""
    scene = bpy.context.scene
    width, height = size()
    poses: dict[str, list[np.ndarray]] = {"source": [], "second": []}
    lenses: dict[str, list[np.ndarray]] = {"source": [], "second": []}
    for frame in frames:
        scene.frame_set(frame)
        for name, camera in (("source", filming), ("second", second)):
            # without the scale that a parent may have
            place = camera.matrix_world.normalized()
            poses[name].append(np.array(place) @ FLIP_AXES)
            lenses[name].append(lens_of(camera, width, height))
    world = poses["source"][0]
    for name, to_world in poses.items():
        moves = any(np.abs(pose - to_world[0]).max() > STILL for pose in to_world)
        if name == "source" and not moves:
            continue
        np.savez(
            out / f"{name}_camera.npz",
            world_to_camera=np.stack([np.linalg.inv(pose) @ world for pose in to_world]),
            intrinsics=np.stack(lenses[name]),
            size=np.array([width, height]),
            source_frame=np.arange(len(frames), dtype=np.float64),
        )
    lens = lenses["source"][0]
    fps = scene.render.fps / scene.render.fps_base
    moving = " --source-camera source_camera.npz" if (out / "source_camera.npz").exists() else ""
    how = f"--focal-px {lens[0, 0]:.6f}" if not moving else moving.strip()
    about = {
        "width": width,
        "height": height,
        "fps": fps,
        "frame_count": len(frames),
        "focal_px": float(lens[0, 0]),
        "intrinsics": lens.tolist(),
        "next": [
            f"ffmpeg -framerate {fps:g} -i plate/%04d.png -c:v ffv1 plate.mkv",
            f"ex4d reconstruct plate.mkv --depth-file depth.npz {how} --out shot",
            "ex4d render shot --camera second_camera.npz --take second",
            "ex4d generate shot --take second",
            "ex4d evaluate shot --take second --truth .",
        ],
    }
    (out / "camera.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def size() -> tuple[int, int]:
    """Of the rendered picture, pixels."""
    settings = bpy.context.scene.render
    share = settings.resolution_percentage / 100
    return int(settings.resolution_x * share), int(settings.resolution_y * share)


def lens_of(camera: bpy.types.Object, width: int, height: int) -> np.ndarray:
    """Pinhole matrix from Blender's own projection, so that fit, shift and pixel aspect are in it. Pixels. [3, 3]"""
    if camera.data.type != "PERSP":
        raise SystemExit(f"Camera '{camera.name}' must be a perspective one, it is {camera.data.type}.")
    settings = bpy.context.scene.render
    projection = camera.calc_matrix_camera(
        bpy.context.evaluated_depsgraph_get(),
        x=width,
        y=height,
        scale_x=settings.pixel_aspect_x,
        scale_y=settings.pixel_aspect_y,
    )
    matrix = np.eye(3)
    matrix[0, 0], matrix[0, 2] = projection[0][0] * width / 2, width / 2 * (1 - projection[0][2])
    matrix[1, 1], matrix[1, 2] = projection[1][1] * height / 2, height / 2 * (1 + projection[1][2])
    return matrix


def set_up_depth(scene: bpy.types.Scene) -> None:
    """Every surface glows with its distance along the view axis; nothing else adds to it."""
    material = bpy.data.materials.new("depth")
    if bpy.app.version < (5, 0, 0):  # from then on every material has nodes
        material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    glow, out = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(tree.nodes.new("ShaderNodeCameraData").outputs["View Z Depth"], glow.inputs["Color"])
    tree.links.new(glow.outputs["Emission"], out.inputs["Surface"])
    material.cycles.emission_sampling = "NONE"
    for layer in scene.view_layers:
        layer.material_override = material
    for lens in bpy.data.cameras:
        lens.dof.use_dof = False
    settings = scene.render
    settings.engine, settings.use_motion_blur = "CYCLES", False
    settings.film_transparent, settings.use_compositing, settings.use_sequencer = True, False, False
    settings.image_settings.file_format, settings.image_settings.color_mode = "OPEN_EXR", "RGBA"
    settings.image_settings.color_depth = "32"
    cycles = scene.cycles
    cycles.samples, cycles.use_adaptive_sampling, cycles.use_denoising, cycles.max_bounces = 1, False, False, 0
    cycles.pixel_filter_type, cycles.filter_width = "BOX", DEPTH_FILTER_PX
    scene.view_settings.view_transform, scene.view_settings.look = "Raw", "None"
    scene.view_settings.exposure, scene.view_settings.gamma = 0.0, 1.0


def read_depth(path: Path, background: float) -> np.ndarray:
    """The red channel of an EXR, top row first; background where nothing was hit. float32 [H, W]"""
    image = bpy.data.images.load(str(path))
    try:
        width, height = image.size
        pixels = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(pixels)
    finally:
        bpy.data.images.remove(image)
    red, _, _, alpha = np.moveaxis(pixels.reshape(height, width, 4)[::-1], -1, 0)
    return np.where((alpha > 0) & (red > 0), red, np.float32(background))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="render_truth.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--second", required=True, metavar="NAME", help="the second camera")
    parser.add_argument("--source", metavar="NAME", help="the camera that films the plate (default the scene's)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--frames", metavar="A:B", help="first and last frame (default the scene's)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="true pictures in every N-th frame")
    options = parser.parse_args(arguments)
    scene = bpy.context.scene
    first, last = scene.frame_start, scene.frame_end
    if options.frames:
        first, last = (int(number) for number in options.frames.split(":"))
    out = options.out.resolve()
    render_truth(options.second, out, range(first, last + 1), options.source, options.every)
    print(f"Written. Go on in {shlex.quote(str(out))} with the commands in camera.json.")


if __name__ == "__main__":
    main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:])
