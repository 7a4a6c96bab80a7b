# SPDX-License-Identifier: GPL-3.0-or-later
"""From the scene's camera to a job along its path: what a take and a check of its coverage have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import path_sampling, session, shots
from .shared_protocol.messages import Pictures

INPUT_ROLES = ("shot.json", "plate.mkv", "depth.npz")


@dataclass(frozen=True)
class CameraJob:
    """A job that needs the shot and the scene's camera."""

    title: str
    kind: str
    params: dict
    folder: Path  # where camera.npz and then the job's files go
    on_done: Callable[[session.Files], None]


def shoot(context, job: CameraJob):
    """Sample the scene's camera over the scene's frames, write camera.npz in the background, then send the job.

    Raises:
        CameraPathError: the camera cannot be sent; nothing was changed.
        ShotDataError: the shot's files are missing.
    """
    scene, state = context.scene, context.scene.ex4d
    inputs = {role: shots.shot_file(scene, role) for role in INPUT_ROLES}
    sampled = path_sampling.sample_camera_path(
        context,
        state.root,
        range(scene.frame_start, scene.frame_end + 1),
        state.plate_start,
        state.plate_frames,
        hide=[state.mesh],
    )
    session.call(
        "Writing the camera",
        path_sampling.write_path,
        job.folder,
        sampled,
        scene.frame_start,
        on_done=partial(_send, job, inputs, Pictures(sampled.width, sampled.height, len(sampled.source_frame))),
    )


def _send(job, inputs, makes, camera_path):
    files = {**inputs, "camera.npz": camera_path}
    session.start_job(job.title, job.kind, job.params, files, job.folder, job.on_done, makes)
