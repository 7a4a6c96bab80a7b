# SPDX-License-Identifier: Apache-2.0
"""The EX-4D release's own files: what its recon.py writes and its generate.py reads.

camera_<cam>.npz   extrinsics float32 [N, 4, 4], world to camera in OpenGL axes; intrinsics float32 [3, 3], pixels
color_<cam>.mp4    what the plate shows, black elsewhere, 30 fps
mask_<cam>.mp4     white where it shows, 30 fps
mesh.ply           the mesh of the first frame, see `ply.py`
"""

from fractions import Fraction
from pathlib import Path

import numpy as np

from ex4d.camera import OPENGL_FLIP, Array, CameraPath, read_camera_path
from ex4d.errors import CameraError, ShapeError, VideoError
from ex4d.progress import ProgressCallback
from ex4d.storage import replacing
from ex4d.video import read_video, write_video

RELEASE_FPS = Fraction(30)  # EX-4D release, recon.py: whatever the plate's rate is
COLOR_NAMES = ("color", "render")  # the release has used both


def write_release_camera(path: Path | str, cameras: CameraPath) -> None:
    """Write a path as the release's camera file.

    Raises:
        CameraError: the path has what that file cannot hold: a lens that changes or is off the centre.
        StorageError: the disk is full or refuses to be written.
    """
    lens = cameras.intrinsics[0]
    moving = np.flatnonzero((cameras.intrinsics != lens).any(axis=(1, 2)))
    if moving.size:
        raise CameraError(
            f"The release's camera file holds one lens for all frames, but frame {moving[0]} has another than frame 0. "
            "Use a path without zoom, or the take's own camera.npz."
        )
    centre = [cameras.width / 2, cameras.height / 2]
    if not np.allclose(lens[:2, 2], centre, rtol=0, atol=1e-3):
        raise CameraError(
            f"The release's camera file needs the principal point in the picture's middle, {centre}, "
            f"got {lens[:2, 2].tolist()}. Use the take's own camera.npz."
        )
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            extrinsics=(OPENGL_FLIP @ cameras.world_to_camera).astype(np.float32),
            intrinsics=lens.astype(np.float32),
        )


def write_release_files(
    folder: Path,
    name: str,
    cameras: CameraPath,
    color: Array,
    mask: Array,
    progress: ProgressCallback | None = None,
) -> None:
    """Write a take's conditioning as the release's recon.py does, for its generate.py.

    Args:
        folder: made if it is missing.
        name: what stands for <cam> in the files' names.
        cameras: the path.
        color: RGB, black where the plate does not show. uint8 [N, h, w, 3]
        mask: True where it shows. bool [N, h, w]

    Raises:
        CameraError: see `write_release_camera`.
        ShapeError: the clips do not fit the path.
        StorageError: the disk is full or refuses to be written.
    """
    expected = (len(cameras), cameras.height, cameras.width)
    if mask.shape != expected or color.shape != (*expected, 3):
        found = f"{list(color.shape)} and {list(mask.shape)}"
        raise ShapeError(f"color and mask must be {list(expected)} like the camera path, got {found}.")
    write_release_camera(folder / f"camera_{name}.npz", cameras)
    write_video(folder / f"color_{name}.mp4", color, RELEASE_FPS, "h264", progress)
    write_video(folder / f"mask_{name}.mp4", mask.astype(np.uint8) * np.uint8(255), RELEASE_FPS, "h264", progress)


def read_release_files(
    folder: Path, name: str, progress: ProgressCallback | None = None
) -> tuple[CameraPath, Array, Array]:
    """Read a conditioning that the release's recon.py, or `write_release_files`, wrote.

    Returns:
        the path; colour RGB uint8 [N, h, w, 3]; mask, True where the plate shows, bool [N, h, w]

    Raises:
        CameraError, VideoError: a file is missing or damaged; the message names it.
        ShapeError: the files do not belong together.
    """
    cameras = read_camera_path(folder / f"camera_{name}.npz")
    found = [path for path in (folder / f"{kind}_{name}.mp4" for kind in COLOR_NAMES) if path.exists()]
    if not found:
        raise VideoError(f"'{folder}' has no {' or '.join(f'{kind}_{name}.mp4' for kind in COLOR_NAMES)}.")
    color = read_video(found[0], progress=progress).frames
    mask = read_video(folder / f"mask_{name}.mp4", progress=progress).frames[..., 0] > 127  # lossy: grey around edges
    expected = (len(cameras), cameras.height, cameras.width)
    for path, clip in ((found[0], color), (folder / f"mask_{name}.mp4", mask)):
        if clip.shape[:3] != expected:
            raise ShapeError(f"'{path}' is {list(clip.shape[:3])}, camera_{name}.npz says {list(expected)}.")
    return cameras, color, mask
