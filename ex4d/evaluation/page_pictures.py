# SPDX-License-Identifier: Apache-2.0
"""The page's frames: what the mesh shows, what came out of it, and where two takes differ."""

import base64
import html
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np

from ex4d.camera import Array
from ex4d.evaluation.side import Side

COLUMNS = 6
THUMBNAIL_PX = 280  # longer side
JPEG_QUALITY = 88
DIFFERENCE_GAIN = 4
Clip = Array | Mapping[int, Array]  # pictures by frame, uint8 [h, w, 3]


def pictures(sides: Sequence[Side]) -> str:
    """Frames of all sides, their truth, and what differs where two have one size."""
    frames = [_chosen(side, sides) for side in sides]
    head = "".join(f"<th>{_frame_numbers(numbers)}</th>" for numbers in zip(*frames, strict=True))
    body = ""
    for label, side, clip in _rows(sides, frames[0]):
        kind = "" if side is None else "ab"[side]
        name = html.escape(sides[side].name) if side is not None and len(sides) > 1 else ""
        cells = "".join(f"<td>{_image(clip[number])}</td>" for number in frames[side or 0])
        body += f'<tr><th class="{kind}">{label}<small>{name}</small></th>{cells}</tr>'
    return f'<table class="sheet"><tr><th></th>{head}</tr>{body}</table>'


def _rows(sides: Sequence[Side], frames: list[int]) -> Iterator[tuple[str, int | None, Clip]]:
    """Label, whose it is, and pictures by frame, from top to bottom."""
    first = sides[0]
    yield "Mesh", 0, first.mesh
    yield "Result", 0, first.result
    if first.truth.keys() >= set(frames):
        yield "Truth", None, first.truth
    for number, other in enumerate(sides[1:], 1):
        if first.result.shape == other.result.shape:
            change = cv2.absdiff(first.result, other.result)
            gained = np.minimum(change.astype(np.uint16) * DIFFERENCE_GAIN, 255).astype(np.uint8)
            yield f"Difference, {DIFFERENCE_GAIN} times", None, gained
        yield "Result", number, other.result
        yield "Mesh", number, other.mesh


def _chosen(side: Side, sides: Sequence[Side]) -> list[int]:
    """Some frames of a side, evenly; those of which the truth is known where that is the same for all."""
    known = sorted(sides[0].truth)
    if known and all(len(one.result) == len(side.result) for one in sides):
        return [known[round(t * (len(known) - 1))] for t in np.linspace(0, 1, min(COLUMNS, len(known)))]
    count = min(COLUMNS, max(len(one.result) for one in sides))
    return [round(t * (len(side.result) - 1)) for t in np.linspace(0, 1, count)]


def _frame_numbers(numbers: Sequence[int]) -> str:
    return f"frame {numbers[0]}" if len(set(numbers)) == 1 else f"frames {', '.join(map(str, numbers))}"


def _image(picture: Array) -> str:
    height, width = picture.shape[:2]
    scale = min(1.0, THUMBNAIL_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, coded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    data = base64.b64encode(coded.tobytes()).decode()
    return f'<img alt="" width="{size[0]}" height="{size[1]}" src="data:image/jpeg;base64,{data}">'
