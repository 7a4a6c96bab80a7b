# SPDX-License-Identifier: Apache-2.0
"""A small painted take whose truth is known, for the tests of evaluation."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ex4d.camera import CameraPath, write_camera_path
from ex4d.evaluation.evaluate import TruthFiles
from ex4d.evaluation.novel_view import read_true_views
from ex4d.generation import GenerateOptions
from ex4d.shot import DepthInfo, PlateInfo, Shot, write_shot
from ex4d.take import generate_take, render_take
from ex4d.video import write_video

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample"
SIDE = 192  # of the sample, made smaller
FRAMES = [6, 12, 18]


def small_views():
    """Three frames of the sample with their truth, SIDE pixels wide."""
    views = read_true_views(SAMPLE, FRAMES)
    scale = np.diag([SIDE / 512, SIDE / 512, 1])
    path = views.cameras
    return dataclasses.replace(
        views,
        plate=shrunk(views.plate),
        depth=shrunk(views.depth, cv2.INTER_NEAREST),
        intrinsics=scale @ views.intrinsics,
        cameras=CameraPath(path.world_to_camera, scale @ path.intrinsics, SIDE, SIDE, path.source_frame),
        color=shrunk(views.color),
        color_depth=shrunk(views.color_depth, cv2.INTER_NEAREST),
    )


def shrunk(pictures, interpolation=cv2.INTER_AREA):
    return np.stack([cv2.resize(picture, (SIDE, SIDE), interpolation=interpolation) for picture in pictures])


def write_painted(folder, views):
    """A shot with a painted take `one`, and the truth beside it."""
    info = DepthInfo("truth", "ours", True, "metric", None, {})
    plate = PlateInfo("plate.mp4", "0" * 64, 0, None)
    shot = Shot(views.plate, Fraction(24), views.depth, views.intrinsics, "exact", plate, info)
    write_shot(folder, shot)
    take, drawn = render_take(folder, shot, "one", views.cameras, "cpu")
    generate_take(folder, shot, take, views.cameras, drawn, GenerateOptions("preview"))
    write_video(folder / "truth.mkv", views.color, Fraction(24), "ffv1")
    np.savez(folder / "truth_depth.npz", depth=views.color_depth)
    np.savez(folder / "plate_depth.npz", depth=views.depth)
    write_camera_path(folder / "true_camera.npz", views.cameras)


def truth_files(folder):
    names = ("truth.mkv", "true_camera.npz", "truth_depth.npz", "plate_depth.npz")
    return TruthFiles(*(folder / name for name in names))


def turned(cameras, degrees, moved):
    """The cameras, turned about the vertical axis and moved along x, in their own frames."""
    angle = np.radians(degrees)
    step = np.eye(4)
    step[:3, :3] = cv2.Rodrigues(np.array([0, angle, 0]))[0]
    step[0, 3] = moved
    return dataclasses.replace(cameras, world_to_camera=step @ cameras.world_to_camera)
