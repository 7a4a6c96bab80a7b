# SPDX-License-Identifier: Apache-2.0
"""The last step of a take: the result as files, and one picture that shows what happened."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.audio import Audio
from ex4d.camera import CameraPath
from ex4d.errors import ShapeError
from ex4d.progress import ProgressCallback
from ex4d.shot import Shot
from ex4d.takes import Take, take_folder
from ex4d.timecode import shifted
from ex4d.video import write_video

Picture = NDArray[np.uint8]

COLUMNS = 6
THUMBNAIL_PX = 240  # longer side of each picture on the sheet
GAP_PX, MARGIN_PX, LABEL_PX, HEADER_PX = 6, 14, 84, 26
PAPER, INK, FAINT = (24, 24, 26), (225, 225, 225), (140, 140, 145)
MARK = "EX-4D: not for paid work, see take.json"  # in results that a research-only licence allows to look at only
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45


def write_result(
    shot_folder: Path,
    take: Take,
    frames: Picture,
    fps: Fraction,
    progress: ProgressCallback | None = None,
    audio: Audio | None = None,
    timecode: str | None = None,
) -> None:
    """Write the re-shot plate: result.mkv lossless for further work, result.mp4 for looking at.

    Args:
        shot_folder: of the shot.
        take: which take of it.
        frames: RGB. [N, h, w, 3]
        fps: of the shot.
        progress: told after each frame.
        audio, timecode: of these frames, see `playback`.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    folder = take_folder(shot_folder, take.name)
    mark = MARK if take.commercial_use is False else None
    write_video(folder / "result.mkv", frames, fps, "ffv1", progress, mark, audio, timecode)
    write_video(folder / "result.mp4", frames, fps, "h264", progress, mark, audio, timecode)


def playback(shot: Shot, cameras: CameraPath) -> tuple[Audio | None, str | None, tuple[str, ...]]:
    """What of the plate goes on beside a take's pictures.

    Returns:
        the sound of the frames that the take shows, when it plays them one after the other; the timecode of its first
        frame; what the artist must know about it
    """
    shown = np.rint(cameras.source_frame).astype(int)
    plate = shot.plate
    timecode = None
    if plate.timecode is not None:
        timecode = shifted(plate.timecode, plate.first_frame + int(shown[0]), shot.fps)
    if shot.audio is None:
        return None, timecode, ()
    if not np.array_equal(shown, shown[0] + np.arange(len(shown))):
        return None, timecode, ("The plate's sound was left out: the take does not play it frame by frame.",)
    return shot.audio.of_frames(int(shown[0]), len(shown), shot.fps), timecode, ()


def contact_sheet(plate: Picture, mesh_render: Picture, mask: NDArray[Any], result: Picture) -> Picture:
    """Draw a take on one page: a row each for plate, mesh render, mask and result, time from left to right.

    Args:
        plate: RGB. [T, H, W, 3]
        mesh_render: RGB of the conditioning. [N, h, w, 3]
        mask: bool or uint8, grey [N, h, w] or RGB [N, h, w, 3].
        result: RGB. [N, h, w, 3]

    Returns:
        RGB page. uint8 [height, width, 3]
    """
    if not len(mesh_render) == len(mask) == len(result):
        raise ShapeError(
            f"Mesh render, mask and result must have the same number of frames, got {len(mesh_render)}, {len(mask)} "
            f"and {len(result)}."
        )
    rows = {"Plate": plate, "Mesh": mesh_render, "Mask": mask, "Result": result}
    columns = min(COLUMNS, max(len(clip) for clip in rows.values()))
    sizes = {name: _thumbnail_size(clip) for name, clip in rows.items()}
    cell_width = max(width for width, _ in sizes.values())
    sheet_width = MARGIN_PX + LABEL_PX + columns * (cell_width + GAP_PX) - GAP_PX + MARGIN_PX
    sheet_height = HEADER_PX + sum(height + GAP_PX for _, height in sizes.values()) - GAP_PX + MARGIN_PX
    sheet = np.full((sheet_height, sheet_width, 3), PAPER, np.uint8)

    times = np.linspace(0, 1, columns)
    left = MARGIN_PX + LABEL_PX
    for column, time in enumerate(times):
        number = f"frame {round(time * (len(result) - 1))}"
        _write(sheet, number, (left + column * (cell_width + GAP_PX), HEADER_PX - 9), FAINT)
    top = HEADER_PX
    for name, clip in rows.items():
        width, height = sizes[name]
        _write(sheet, name, (MARGIN_PX, top + height // 2 + 5), INK)
        for column, time in enumerate(times):
            picture = _rgb(clip[round(time * (len(clip) - 1))])
            x = left + column * (cell_width + GAP_PX) + (cell_width - width) // 2
            sheet[top : top + height, x : x + width] = cv2.resize(
                picture, (width, height), interpolation=cv2.INTER_AREA
            )
        top += height + GAP_PX
    return sheet


def _thumbnail_size(clip: NDArray[Any]) -> tuple[int, int]:
    height, width = clip.shape[1:3]
    scale = THUMBNAIL_PX / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _rgb(picture: NDArray[Any]) -> Picture:
    if picture.dtype == np.bool_:
        picture = picture.astype(np.uint8) * np.uint8(255)
    return np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture


def _write(sheet: Picture, text: str, position: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(sheet, text, position, FONT, FONT_SCALE, colour, 1, cv2.LINE_AA)
