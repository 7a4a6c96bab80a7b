# SPDX-License-Identifier: Apache-2.0
"""Measure a take: whether it keeps the camera and what the plate shows, and how near it is to the truth if known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import ex4d
from ex4d.camera import Array, CameraPath
from ex4d.conditioning import Conditioning
from ex4d.errors import InputError, MachineError, ShotError
from ex4d.evaluation.camera_error import camera_errors
from ex4d.evaluation.flicker import flicker
from ex4d.evaluation.metrics import BLANK
from ex4d.evaluation.perceptual import lpips_distances
from ex4d.evaluation.record import Column, Evaluation
from ex4d.evaluation.score import masked_ssim
from ex4d.evaluation.truth import (
    Truth,
    check_camera,
    depth_scores,
    picture_psnr_db,
    read_truth,
    score_truth,
    true_visibility,
)
from ex4d.progress import ProgressCallback, track
from ex4d.raster import rasteriser
from ex4d.shot import Shot, read_shot
from ex4d.source_camera import seen_from_the_plate
from ex4d.storage import file_sha256
from ex4d.take import condition
from ex4d.takes import read_take_clips, take_folder
from ex4d.video import read_video

MEASURED = ("result.mkv", "color.mkv", "mask.mkv", "camera.npz")
STILL = 0.01  # levels of 255: a clip that changes less than this has no flicker to compare with


@dataclass(frozen=True)
class TruthFiles:
    """Where the truth about a take lies."""

    path: Path  # a video with every frame, or a folder
    camera: Path | None = None  # .npz; None: the folder's second_camera.npz
    depth: Path | None = None  # of the second camera; None: the folder's
    plate_depth: Path | None = None  # of the plate; None: the folder's


def evaluate_take(
    folder: Path, name: str, truth_files: TruthFiles | None = None, progress: ProgressCallback | None = None
) -> Evaluation:
    """Measure a painted take.

    Args:
        folder: the shot folder.
        name: the take.
        truth_files: what its second camera really saw, where that is known.
        progress: receives every frame's report.

    Raises:
        ShotError, InputError: the shot, the take or the truth cannot be used; the message says why.
    """
    shot = read_shot(folder, progress)
    take, cameras, _, mask = read_take_clips(folder, name, progress)
    place = take_folder(folder, name)
    if not (place / "result.mkv").is_file():
        raise InputError(f"The take '{name}' is not painted yet. Run: ex4d generate {folder} --take {name}.")
    result = read_video(place / "result.mkv", progress=progress).frames
    if result.shape[:3] != mask.shape:
        raise ShotError(
            f"'{place / 'result.mkv'}' is [N, h, w] {list(result.shape[:3])}, its mask {list(mask.shape)}. "
            "Generate the take again."
        )
    truth = None
    if truth_files is not None:
        given = truth_files
        count = len(result)
        truth = read_truth(given.path, count, len(shot.frames), given.camera, given.depth, given.plate_depth)
        check_camera(truth, cameras, float(np.median(shot.depth)))
    drawn = condition(shot, cameras, rasteriser(), progress)
    relative = seen_from_the_plate(cameras, shot.source_camera_to_world)
    frames: dict[str, Column] = {
        "angle_deg": tuple(np.degrees(np.arccos(relative.world_to_camera[:, 2, 2].clip(-1, 1))).tolist()),
        "unseen": take.coverage.unseen,
        "parallax_deg": take.coverage.parallax_deg,
    }
    totals: dict[str, float | None] = {}
    camera_found, totals["localised"] = camera_columns(result, drawn, relative, progress)
    frames |= camera_found | kept_columns(result, drawn, mask, progress)
    flickers, totals["flicker_ratio"] = flicker_columns(result, mask, plate_along(shot, cameras), truth, progress)
    frames |= flickers
    blank = dict(BLANK)
    if truth is None:
        blank["truth"] = "no --truth was given: nothing was compared with what the second camera really saw"
    else:
        frames |= truth_columns(truth, shot, result, mask, drawn, relative)
        try:
            distances = lpips_distances(result[truth.frame], truth.color, progress)
            frames["lpips"] = _column(truth, distances, len(result))
        except MachineError as error:
            blank["lpips"] = str(error)
        if truth.cameras is None:
            blank["true camera"] = "not given: that the take stands where the true camera stood was not checked"
        if "mask_precision" not in frames:
            blank["mask_precision"] = "needs the true depth of the plate and of the second camera"
    return Evaluation(
        take=name,
        frame_count=len(result),
        frames=frames,
        totals=totals,
        blank=blank,
        about={
            "engine": take.engine,
            "settings": take.settings,
            "seed": take.seed,
            "raster": take.raster,
            "convention": shot.convention,
            "depth": shot.depth_info.source,
            "plate_sha256": shot.plate.sha256,
            "size": [cameras.width, cameras.height],
            "fps": f"{shot.fps.numerator}/{shot.fps.denominator}",
            "take_version": take.version,
            "evaluated_version": ex4d.__version__,
            "truth": None if truth_files is None else str(truth_files.path.resolve()),
            "true_frames": [] if truth is None else truth.frame.tolist(),
            "flicker_against": "truth" if truth is not None and len(truth.frame) == len(result) else "plate",
        },
        hashes={file: file_sha256(place / file, "Hashing", progress) for file in MEASURED},
    )


def camera_columns(
    result: Array, drawn: Conditioning, cameras: CameraPath, progress: ProgressCallback | None
) -> tuple[dict[str, Column], float]:
    """Each frame's camera error, and the share of frames whose camera was found."""
    found = camera_errors(result, drawn, cameras, progress)
    columns: dict[str, Column] = {
        "rotation_error_deg": tuple(None if one is None else one.rotation_deg for one in found),
        "translation_error": tuple(None if one is None else one.translation for one in found),
        "shift_px": tuple(None if one is None else one.shift_px for one in found),
        "inliers": tuple(None if one is None else float(one.inliers) for one in found),
    }
    return columns, sum(one is not None for one in found) / len(found)


def kept_columns(
    result: Array, drawn: Conditioning, mask: Array, progress: ProgressCallback | None
) -> dict[str, Column]:
    """How much of what the plate shows is still in the result, against the mesh. mask: bool [N, h, w]"""
    rows: list[tuple[float | None, float | None]] = []
    for n in track(range(len(result)), "Comparing with the plate", progress):
        seen = mask[n] & drawn.mask[n]
        similar = masked_ssim(result[n], drawn.color[n], seen) if seen.any() else None
        rows.append((picture_psnr_db(result[n], drawn.color[n], seen), similar))
    return {"kept_psnr_db": tuple(row[0] for row in rows), "kept_ssim": tuple(row[1] for row in rows)}


def plate_along(shot: Shot, cameras: CameraPath) -> Array:
    """The plate's frames in the order in which the take shows them. uint8 [N, H, W, 3]"""
    return shot.frames[np.rint(cameras.source_frame).astype(np.intp)]


def flicker_columns(
    result: Array, mask: Array, plate: Array, truth: Truth | None, progress: ProgressCallback | None
) -> tuple[dict[str, Column], float | None]:
    """Each frame's flicker, and its ratio to that of the truth, or of the plate where the truth has gaps."""
    found = flicker(result, ~mask, progress)
    steady = truth.color if truth is not None and len(truth.frame) == len(result) else plate
    columns: dict[str, Column] = {
        "flicker": tuple(pair[0] for pair in found),
        "flicker_painted": tuple(pair[1] for pair in found),
    }
    base = [pair[0] for pair in flicker(steady, None, progress)]
    both = [(mine, other) for mine, other in zip(columns["flicker"], base, strict=True) if mine is not None and other]
    if not both or np.mean([other for _, other in both]) < STILL:
        return columns, None
    mine, other = np.array(both).T
    return columns, float(mine.mean() / other.mean())


def truth_columns(
    truth: Truth, shot: Shot, result: Array, mask: Array, drawn: Conditioning, cameras: CameraPath
) -> dict[str, Column]:
    """The score against the truth; None in frames without it. cameras: as seen from the plate's camera."""
    visible = true_visibility(truth, shot.frames, shot.intrinsics, cameras)
    scores = score_truth(truth, result, mask, drawn.depth, visible)
    if truth.plate_depth is not None:
        shown = np.rint(cameras.source_frame[truth.frame]).astype(np.intp)
        all_pixels = np.ones(shot.depth.shape[1:], np.bool_)
        pairs = [depth_scores(shot.depth[t], truth.plate_depth[t], all_pixels) for t in shown]
        scores["plate_depth_abs_rel"] = [pair[0] for pair in pairs]
        scores["plate_depth_delta1"] = [pair[1] for pair in pairs]
    return {name: _column(truth, values, len(result)) for name, values in scores.items()}


def _column(truth: Truth, values: Sequence[float | None], count: int) -> Column:
    """Figures of the true frames among all of the take's."""
    row: list[float | None] = [None] * count
    for n, value in zip(truth.frame, values, strict=True):
        row[n] = value
    return tuple(row)
