# SPDX-License-Identifier: Apache-2.0
"""A plate as an artist has it: one video, or a sequence of numbered pictures."""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ex4d.errors import InputError, VideoError
from ex4d.numbered_files import name_parts, numbered_files
from ex4d.picture import SUFFIXES, read_picture
from ex4d.progress import ProgressCallback, track
from ex4d.video import Clip, check_memory, read_video
from ex4d.video_decode import FALLBACK_RATE, USUAL_RATES

SAME_RATE = 5e-3  # frames per second by which 23.98 misses 24000/1001 at most


@dataclass(frozen=True)
class Pictures:
    """The numbered pictures of a plate; a single still without a number counts as number 0."""

    pattern: Path  # plate.####.exr
    files: dict[int, Path]  # by number, ascending


def read_plate(
    path: Path,
    frame_start: int = 0,
    frame_count: int | None = None,
    progress: ProgressCallback | None = None,
    fps: Fraction | None = None,
    number_start: int | None = None,
) -> Clip:
    """Read frames of a plate as 8-bit RGB.

    Args:
        path: a video, a folder with one sequence, a pattern such as plate.####.exr, or any picture of a sequence.
        frame_start: first frame, 0-based, counted from the plate's first.
        frame_count: how many frames; None for all that follow.
        progress: told after each frame.
        fps: of pictures, which do not know it; None: 24, and said.
        number_start: number of the picture that is the plate's first; None: the lowest.

    Raises:
        VideoError: a frame is missing, unreadable or of another size (the message names it), or all are too many.
        InputError: what belongs to pictures was said of a video.
    """
    pictures = find_pictures(path)
    if pictures is None:
        if fps is not None or number_start is not None:
            raise InputError(f"'{path.name}' is a video, which has its own frame rate: give none.")
        return read_video(path, frame_start, frame_count, progress)
    begin = min(pictures.files) if number_start is None else number_start
    numbers = _wanted_numbers(pictures, begin, frame_start, frame_count)
    frames = np.empty((0, 0, 0, 3), np.uint8)
    said: dict[str, None] = {}
    if fps is None:
        said[f"Pictures have no frame rate: {FALLBACK_RATE} frames per second are assumed."] = None
    digest = hashlib.sha256()
    for index, number in enumerate(track(numbers, "Reading the pictures", progress)):
        file = pictures.files[number]
        try:
            picture, notices = read_picture(file)
        except VideoError as error:
            raise VideoError(f"Frame {number} cannot be used: {error}") from error
        height, width = picture.shape[:2]
        if index == 0:
            check_memory(path, width, height, frame_start, len(numbers))
            frames = np.empty((len(numbers), height, width, 3), np.uint8)
        if picture.shape != frames.shape[1:]:
            raise VideoError(
                f"Frame {number}, '{file.name}', is {width} x {height} pixels, frame {numbers[0]} is "
                f"{frames.shape[2]} x {frames.shape[1]}. A plate must keep its size: export that frame again, or split "
                "the plate there."
            )
        frames[index] = picture
        said |= dict.fromkeys(notices)
        digest.update(file.read_bytes())
    return Clip(
        frames=frames,
        fps=fps or FALLBACK_RATE,
        first_frame=frame_start,
        path=pictures.pattern,
        sha256=digest.hexdigest(),
        timecode=None,
        notices=tuple(said),
        first_number=numbers[0],
    )


def frame_rate(text: str) -> Fraction:
    """A frame rate as people write it: 24, 23.976, 24000/1001.

    Raises:
        InputError: it is none.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise InputError(f"A frame rate is a number such as 24, 23.976 or 24000/1001, got '{text}'.")
    if rate.denominator in {1, 1001}:
        return rate
    usual = min(USUAL_RATES, key=lambda known: abs(known - rate))
    return usual if abs(usual - rate) < SAME_RATE else rate


def find_pictures(path: Path) -> Pictures | None:
    """The pictures that a path stands for; None when it stands for a video.

    Raises:
        VideoError: a folder or a pattern without pictures, or a folder with several sequences.
    """
    if path.is_dir():
        return _only_sequence(path)
    if path.suffix.lower() not in SUFFIXES:
        return None
    files = numbered_files(path)
    if path.is_file():
        return Pictures(_pattern(path), files) if files else Pictures(path, {0: path})
    if not files:
        raise VideoError(f"There are no pictures '{path}'. Check the folder and the name.")
    return Pictures(path, files)


def _only_sequence(folder: Path) -> Pictures:
    found: dict[Path, Path] = {}  # pattern -> one of its files
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            found.setdefault(_pattern(file), file)
    if not found:
        raise VideoError(f"'{folder}' holds no pictures ({', '.join(SUFFIXES)}). Choose a video or another folder.")
    if len(found) > 1:
        names = ", ".join(pattern.name for pattern in found)
        raise VideoError(f"'{folder}' holds several sequences: {names}. Name one of them.")
    pattern, file = found.popitem()
    return Pictures(pattern, numbered_files(file) or {0: file})


def _pattern(file: Path) -> Path:
    """plate.####.exr of plate.0001.exr; the file itself when it has no number."""
    parts = name_parts(file.name)
    return file if parts is None else file.with_name("####".join(parts))


def _wanted_numbers(pictures: Pictures, begin: int, frame_start: int, frame_count: int | None) -> range:
    """The numbers of the wanted frames, all of which are there."""
    last = max(pictures.files)
    count = last + 1 - begin - frame_start if frame_count is None else frame_count
    numbers = range(begin + frame_start, begin + frame_start + count)
    if frame_start < 0 or count < 1 or numbers[0] < min(pictures.files) or numbers[-1] > last:
        asked = f"{frame_count} frames" if frame_count is not None else "frames"
        raise VideoError(
            f"'{pictures.pattern}' has the frames {min(pictures.files)} to {last}, but {asked} from "
            f"{begin + frame_start} on were asked for. Choose a range inside the plate."
        )
    missing = [number for number in numbers if number not in pictures.files]
    if missing:
        raise VideoError(
            f"Frame {missing[0]} of '{pictures.pattern}' is missing ({len(missing)} of {count} frames are). Render or "
            f"copy it, or choose frames without a gap with --frames, counted from 0 at frame {begin}."
        )
    return numbers
