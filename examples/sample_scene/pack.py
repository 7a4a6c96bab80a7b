# SPDX-License-Identifier: Apache-2.0
"""Pack rendered frames into the small files of `examples/sample`: H.264 plate, FFV1 inverse depth, JPEG, cameras."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ex4d.camera import CameraPath, write_camera_path
from ex4d.video import write_video

from . import cameras
from .cameras import Array

# A grey value is 65535 / z with z in metres, all within 16 bits as nothing is nearer than 1 m. It keeps every
# reprojection within 0.02 px.
DEPTH_LEVELS = 65535
DEPTH_SCALE = 1.0
JPEG_QUALITY = 95


def pack_sample(frames: Path, out: Path) -> None:
    """Read what `render_sample` wrote into `frames` and write the sample into `out`."""
    plate_numbers = range(cameras.FRAME_COUNT)
    (out / "truth").mkdir(parents=True, exist_ok=True)
    plate = np.stack([cv2.imread(str(frames / f"plate_{i:04d}.png"))[..., ::-1] for i in plate_numbers])
    write_video(out / "plate.mp4", plate, Fraction(cameras.FPS), "h264")
    for i in cameras.TRUTH_FRAMES:
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]  # 4:4:4
        cv2.imwrite(str(out / "truth" / f"{i:04d}.jpg"), cv2.imread(str(frames / f"truth_{i:04d}.png")), quality)

    fps = Fraction(cameras.FPS)
    write_inverse_depth(out / "depth.mkv", read_depth(frames, "plate", plate_numbers), fps)
    truth_depth = read_depth(frames, "truth", cameras.TRUTH_FRAMES)
    write_inverse_depth(out / "truth_depth.mkv", truth_depth, fps / cameras.TRUTH_FRAMES.step)
    write_cameras(out)


def read_depth(frames: Path, name: str, numbers: range) -> Array:
    """The rendered z-depth, metres. float32 [N, H, W]"""
    depth = np.stack([np.load(frames / f"{name}_depth_{i:04d}.npy", allow_pickle=False) for i in numbers])
    if not (np.isfinite(depth).all() and depth.min() > 0):
        raise ValueError(f"{name}: every pixel must see something, {np.count_nonzero(depth <= 0)} see nothing.")
    return depth


def write_inverse_depth(path: Path, depth: Array, fps: Fraction) -> None:
    """Lossless 16-bit grey, value = round(65535 * (1 / z) / scale), and the side file that says so.

    Args:
        path: the .mkv; the side file is the .json beside it.
        depth: z-depth, metres. float32 [N, H, W]
        fps: frames per second.
    """
    values = np.round(DEPTH_LEVELS / DEPTH_SCALE / depth.astype(np.float64))
    write_video(path, values.astype(np.uint16), fps, "ffv1")
    about = {
        "kind": "inverse",
        "scale": DEPTH_SCALE,
        "formula": "1 / z = value / 65535 * scale",
        "unit": "metre",
        "range": [float(depth.min()), float(depth.max())],
        "source": "rendered with Cycles: distance along the view axis, through each pixel's centre",
    }
    write_json(path.with_suffix(".json"), about)


def write_cameras(out: Path) -> None:
    """camera.json for the source, second_camera.npz for the second camera."""
    matrix = cameras.intrinsics()
    about = {
        "width": cameras.WIDTH,
        "height": cameras.HEIGHT,
        "fps": cameras.FPS,
        "frame_count": cameras.FRAME_COUNT,
        "lens_mm": cameras.LENS_MM,
        "sensor_width_mm": cameras.SENSOR_WIDTH_MM,
        "focal_px": float(matrix[0, 0]),
        "intrinsics": matrix.tolist(),
        "pixel_origin": "top left edge; pixel i has its centre at i + 0.5",
        "world_to_camera": np.eye(4).tolist(),
        "eye_height_m": cameras.EYE_HEIGHT_M,
        "truth_frames": list(cameras.TRUTH_FRAMES),
    }
    write_json(out / "camera.json", about)
    path = CameraPath(
        world_to_camera=cameras.second_camera(),
        intrinsics=np.repeat(matrix[None], cameras.FRAME_COUNT, axis=0),
        width=cameras.WIDTH,
        height=cameras.HEIGHT,
        source_frame=np.arange(cameras.FRAME_COUNT, dtype=np.float64),
    )
    write_camera_path(out / "second_camera.npz", path)


def write_json(path: Path, content: dict[str, object]) -> None:
    """Readable JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
