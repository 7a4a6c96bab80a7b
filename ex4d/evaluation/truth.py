# SPDX-License-Identifier: Apache-2.0
"""The truth about a take: what a second camera really saw, and a take's score against it.

A truth is a video with a picture for every frame of the take, or a folder as examples/render_truth.py writes it and
examples/sample is one: truth/NNNN.png (or .jpg) for some frames, second_camera.npz, truth_depth, and the plate's depth.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ex4d.camera import Array, CameraPath, read_camera_path
from ex4d.depth.file_formats import read_depth_file
from ex4d.errors import InputError, ShapeError
from ex4d.evaluation.metrics import BEST_PSNR_DB
from ex4d.evaluation.novel_view import TrueViews, plate_saw
from ex4d.evaluation.score import masked_psnr_db, masked_ssim
from ex4d.video import read_video

PICTURES = (".png", ".jpg")
DEPTHS = ("{}.mkv", "{}.npz", "{}.####.exr")  # under which names a folder may hold depth
SAME_ANGLE_DEG, SAME_PLACE = 0.05, 1e-3  # how near two cameras are one; the place as a share of the scene's depth
DELTA = 1.25  # Eigen et al. 2014: a depth is right within this factor


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of the second camera."""

    path: Path
    frame: Array  # which frames of the take. int [K], ascending
    color: Array  # what it truly sees there. uint8 [K, h, w, 3]
    depth: Array | None = None  # and its true z-depth. float32 [K, h, w]
    plate_depth: Array | None = None  # true z-depth of the plate. float32 [T, H, W]
    cameras: CameraPath | None = None  # where it truly stood, for each frame of the take


def read_truth(
    path: Path,
    frame_count: int,
    plate_count: int,
    camera: Path | None = None,
    depth: Path | None = None,
    plate_depth: Path | None = None,
) -> Truth:
    """Read a truth.

    Args:
        path: video or folder.
        frame_count, plate_count: of the take and of its shot.
        camera, depth, plate_depth: files that are not in the folder, or instead of those.

    Raises:
        InputError, VideoError, DepthError, CameraError: a file is missing, damaged or does not fit.
    """
    numbers, color = true_pictures(path, frame_count)
    stored = frame_count
    if path.is_dir():
        camera = camera or _first(path, ("second_camera.npz",))
        depth = depth or _first(path, tuple(name.format("truth_depth") for name in DEPTHS))
        plate_depth = plate_depth or _first(path, tuple(name.format("depth") for name in DEPTHS))
        stored = len([file for file in (path / "truth").iterdir() if file.suffix in PICTURES])
    cameras = None if camera is None else read_camera_path(camera)
    if cameras is not None and len(cameras) < frame_count:
        raise InputError(f"The true camera '{camera}' has {len(cameras)} frames, the take has {frame_count}.")
    true_depth = None if depth is None else z_depth(depth, stored)[: len(numbers)]
    if true_depth is not None and true_depth.shape != color.shape[:3]:
        raise InputError(f"'{depth}' is {list(true_depth.shape)}, the true pictures are {list(color.shape[:3])}.")
    return Truth(
        path,
        np.array(numbers),
        color,
        true_depth,
        None if plate_depth is None else z_depth(plate_depth, plate_count),
        cameras,
    )


def true_pictures(path: Path, frame_count: int) -> tuple[list[int], Array]:
    """The true pictures in a video or folder: of which frames of the take, and uint8 [K, h, w, 3]."""
    if path.is_dir():
        return _pictures(path / "truth", frame_count)
    color = read_video(path).frames
    if len(color) != frame_count:
        raise InputError(f"'{path}' has {len(color)} frames, the take has {frame_count}. Give one for each.")
    return list(range(frame_count)), color


def z_depth(path: Path, count: int) -> Array:
    """The first frames of a depth file as z-depth. float32 [count, H, W]"""
    stored = read_depth_file(path, "z", 0, count)
    values = stored.values.astype(np.float64)
    return np.asarray(1 / values if stored.kind == "inverse" else values, dtype=np.float32)


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if any(folder.glob(name.replace("####", "*")))), None)


def _pictures(folder: Path, frame_count: int) -> tuple[list[int], Array]:
    files = sorted(file for file in folder.glob("*") if file.suffix in PICTURES and file.stem.isdigit())
    files = [file for file in files if int(file.stem) < frame_count]
    if not files:
        raise InputError(f"'{folder}' has no true pictures NNNN.png or .jpg of the take's {frame_count} frames.")
    pictures: list[Array] = []
    for file in files:
        picture = cv2.imread(str(file))
        if picture is None or (pictures and picture.shape != pictures[0].shape):
            raise InputError(f"'{file}' is damaged or of another size than '{files[0].name}'. Make it again.")
        pictures.append(picture[..., ::-1])
    return [int(file.stem) for file in files], np.stack(pictures)


def check_camera(truth: Truth, cameras: CameraPath, scene_depth: float) -> None:
    """Refuse a take that was rendered along another path than the truth.

    Args:
        cameras: the take's.
        scene_depth: median depth of the shot.
    """
    if truth.color.shape[1:3] != (cameras.height, cameras.width):
        size = f"{truth.color.shape[2]} x {truth.color.shape[1]}"
        raise InputError(f"The true pictures are {size}, the take is {cameras.width} x {cameras.height}: sizes differ.")
    if truth.cameras is None:
        return
    for frame in truth.frame:
        off = cameras.world_to_camera[frame] @ np.linalg.inv(truth.cameras.world_to_camera[frame])
        turned = float(np.degrees(np.linalg.norm(cv2.Rodrigues(off[:3, :3])[0])))
        moved = float(np.linalg.norm(off[:3, 3])) / scene_depth
        lens = np.abs(cameras.intrinsics[frame] - truth.cameras.intrinsics[frame]).max()
        if turned > SAME_ANGLE_DEG or moved > SAME_PLACE or lens > 0.5:
            raise InputError(
                f"The take was rendered along another path: in frame {frame} it is {turned:.2f} degrees, "
                f"{moved:.1%} of the scene's depth and {lens:.1f} px of lens off the true camera. "
                "Render it with --camera and the true camera's file."
            )


def score_truth(
    truth: Truth, result: Array, mask: Array, mesh_depth: Array, visible: Array | None
) -> dict[str, list[float | None]]:
    """Score a take's true frames; a list with K entries for each measure.

    Args:
        result: the take's. uint8 [N, h, w, 3]
        mask: where the take says that the plate shows. bool [N, h, w]
        mesh_depth: z-depth of its mesh. float [N, h, w]
        visible: where the plate truly saw what the second camera sees, see `true_visibility`. bool [K, h, w]
    """
    if result.shape[1:] != truth.color.shape[1:] or mask.shape != result.shape[:3]:
        raise ShapeError(f"Result {list(result.shape)} and truth {list(truth.color.shape)} must have one size.")
    rows: dict[str, list[float | None]] = {}
    for k, n in enumerate(truth.frame):
        true, seen = truth.color[k], mask[n]
        found: dict[str, float | None] = {}
        for suffix, where in (("", np.ones_like(seen)), ("_seen", seen), ("_painted", ~seen)):
            found |= {f"psnr{suffix}_db": picture_psnr_db(result[n], true, where)}
            found |= {f"ssim{suffix}": masked_ssim(result[n], true, where) if where.any() else None}
        if visible is not None:
            found["mask_precision"], found["mask_recall"] = precision_recall(seen, visible[k])
        if truth.depth is not None:
            counts = seen & np.isfinite(mesh_depth[n])
            found["depth_abs_rel"], found["depth_delta1"] = depth_scores(mesh_depth[n], truth.depth[k], counts)
        for name, value in found.items():
            rows.setdefault(name, []).append(value)
    return rows


def picture_psnr_db(picture: Array, truth: Array, where: Array) -> float | None:
    """PSNR over some pixels, at most BEST_PSNR_DB; None over none."""
    return min(masked_psnr_db(picture, truth, where), BEST_PSNR_DB) if where.any() else None


def precision_recall(mask: Array, visible: Array) -> tuple[float | None, float | None]:
    """Of the marked pixels the share that is visible; of the visible ones the share that is marked. bool [h, w]"""
    marked, true = (float(np.count_nonzero(part)) for part in (mask, visible))
    both = float(np.count_nonzero(mask & visible))
    return both / marked if marked else None, both / true if true else None


def depth_scores(depth: Array, truth: Array, where: Array) -> tuple[float | None, float | None]:
    """AbsRel and delta 1 over some pixels, without fitting a scale. depth, truth: z-depth [h, w]"""
    if not where.any():
        return None, None
    ratio = depth[where].astype(np.float64) / truth[where]
    return float(np.abs(ratio - 1).mean()), float((np.maximum(ratio, 1 / ratio) < DELTA).mean())


def true_visibility(truth: Truth, plate: Array, intrinsics: Array, cameras: CameraPath) -> Array | None:
    """Where the plate saw what the second camera sees; None without the true depths of both.

    Args:
        plate: the shot's frames. uint8 [T, H, W, 3]
        intrinsics: of its camera. [3, 3]
        cameras: the take's, as seen from the plate's camera of the frame that each shows.
    """
    if truth.depth is None or truth.plate_depth is None:
        return None
    if truth.plate_depth.shape[1:] != plate.shape[1:3]:
        size = f"{list(truth.plate_depth.shape[1:])}, the plate is {list(plate.shape[1:3])}"
        raise InputError(f"The plate's true depth is {size}. Give the depth of the shot as it was reconstructed.")
    shown = np.rint(cameras.source_frame[truth.frame]).astype(np.intp)
    path = CameraPath(
        cameras.world_to_camera[truth.frame],
        cameras.intrinsics[truth.frame],
        cameras.width,
        cameras.height,
        np.arange(len(shown)),
    )
    views = TrueViews(shown, plate[shown], truth.plate_depth[shown], intrinsics, path, truth.color, truth.depth)
    return plate_saw(views)
