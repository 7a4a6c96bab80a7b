# SPDX-License-Identifier: Apache-2.0
"""One picture per sample, for a person to judge its mask by."""

import cv2
import numpy as np

from ex4d.camera import Array
from ex4d.training.records import Record

COLUMNS = 7
THUMBNAIL_PX = 200  # longer side of each picture
GAP_PX, MARGIN_PX, LABEL_PX, LINE_PX = 4, 12, 92, 22
PAPER, INK, FAINT = (24, 24, 26), (225, 225, 225), (150, 150, 155)
HOLE = (200, 40, 120)  # a colour that footage seldom has, so that holes are not taken for shadows
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


def sheet(record: Record, target: Array, mask: Array, new_view: Array | None) -> Array:
    """Draw a sample: the source, the new camera that made the mask, the mask, and what the model is given.

    Args:
        record: of the sample.
        target: RGB. [T, H, W, 3]
        mask: True where the model is given the target. [T, H, W]
        new_view: RGB from the new camera, where there was one. [T, H, W, 3]

    Returns:
        RGB page. uint8 [height, width, 3]
    """
    shown = np.linspace(0, len(target) - 1, min(COLUMNS, len(target))).round().astype(int)
    rows = {"Source": target[shown]}
    if new_view is not None:
        rows["New camera"] = new_view[shown]
    rows["Mask"] = np.repeat(mask[shown][..., None].astype(np.uint8) * np.uint8(255), 3, axis=3)
    rows["Given"] = np.where(mask[shown][..., None], target[shown], np.array(HOLE, np.uint8))
    scale = THUMBNAIL_PX / max(target.shape[1:3])
    width, height = (max(1, round(side * scale)) for side in (target.shape[2], target.shape[1]))
    top = MARGIN_PX + 3 * LINE_PX
    page_height = top + len(rows) * (height + GAP_PX) + MARGIN_PX
    page_width = MARGIN_PX + LABEL_PX + len(shown) * (width + GAP_PX) + MARGIN_PX
    page = np.full((page_height, max(page_width, 640), 3), PAPER, np.uint8)
    for number, line in enumerate(_lines(record)):
        _write(page, line, (MARGIN_PX, MARGIN_PX + LINE_PX * number + 8), FAINT if number else INK)
    for column, frame in enumerate(shown):
        seen = f"{frame}: {mask[frame].mean():.0%} seen"
        _write(page, seen, (MARGIN_PX + LABEL_PX + column * (width + GAP_PX), top - 6), FAINT)
    for name, pictures in rows.items():
        _write(page, name, (MARGIN_PX, top + height // 2), INK)
        for column, picture in enumerate(pictures):
            left = MARGIN_PX + LABEL_PX + column * (width + GAP_PX)
            small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            page[top : top + height, left : left + width] = small
        top += height + GAP_PX
    return page


def _lines(record: Record) -> tuple[str, str]:
    last = record.first_frame + record.frame_count - 1
    size = f"{record.width}x{record.height}"
    what = f"{record.source}, frames {record.first_frame} to {last}, {size}: {record.mask_kind} mask, {record.key}"
    how = []
    if record.depth_source is not None:
        how.append(f"depth: {record.depth_source}")
    if record.camera:
        how.append(f"camera: {record.camera.get('move', record.camera['kind'])}")
    how.append(f"seen {record.mask['seen_mean']:.0%}")
    return what, ";  ".join(how)


def _write(page: Array, text: str, position: tuple[int, int], colour: tuple[int, int, int]) -> None:
    # OpenCV's letters are ASCII.
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(page, plain, position, FONT, FONT_SCALE, colour, 1, cv2.LINE_AA)
