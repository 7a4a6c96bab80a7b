# SPDX-License-Identifier: Apache-2.0
"""The page's frames: what the mesh shows, what came out of it, and where two takes differ."""

import base64
import html
from collections.abc import Sequence

import cv2
import numpy as np

from ex4d.camera import Array
from ex4d.evaluation.side import Side

COLUMNS = 6
THUMBNAIL_PX = 280  # longer side
JPEG_QUALITY = 88
DIFFERENCE_GAIN = 4


def pictures(sides: Sequence[Side]) -> str:
    """Frames of all sides, and what differs where two have one size."""
    first = sides[0]
    owner = first.name if len(sides) > 1 else ""
    rows = [("Mesh", owner, first.mesh, "a"), ("Result", owner, first.result, "a")]
    for second in sides[1:]:
        if first.result.shape == second.result.shape:
            change = cv2.absdiff(first.result, second.result)
            gained = np.minimum(change.astype(np.uint16) * DIFFERENCE_GAIN, 255).astype(np.uint8)
            rows.append((f"Difference, {DIFFERENCE_GAIN} times", "", gained, "d"))
        rows += [("Result", second.name, second.result, "b"), ("Mesh", second.name, second.mesh, "b")]
    counts = [len(side.result) for side in sides]
    times = np.linspace(0, 1, min(COLUMNS, max(counts)))
    head = "".join(f"<th>{_frame_numbers([round(t * (count - 1)) for count in counts])}</th>" for t in times)
    body = ""
    for label, owner, clip, kind in rows:
        cells = "".join(f"<td>{_image(clip[round(t * (len(clip) - 1))])}</td>" for t in times)
        body += f'<tr><th class="{kind}">{label}<small>{html.escape(owner)}</small></th>{cells}</tr>'
    return f'<table class="sheet"><tr><th></th>{head}</tr>{body}</table>'


def _frame_numbers(numbers: list[int]) -> str:
    return f"frame {numbers[0]}" if len(set(numbers)) == 1 else f"frames {', '.join(map(str, numbers))}"


def _image(picture: Array) -> str:
    height, width = picture.shape[:2]
    scale = min(1.0, THUMBNAIL_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, coded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    data = base64.b64encode(coded.tobytes()).decode()
    return f'<img alt="" width="{size[0]}" height="{size[1]}" src="data:image/jpeg;base64,{data}">'
