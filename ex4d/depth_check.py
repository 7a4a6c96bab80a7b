# SPDX-License-Identifier: Apache-2.0
"""One picture by which a person judges a reconstruction in two seconds: plate, depth, a view from 20 degrees aside.

Bent walls, a subject that is flat or torn, or a background that hangs on the subject's edge show at once from aside; so
does what the new camera cannot see.
"""

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.conditioning import render_conditioning
from ex4d.errors import StorageError
from ex4d.shot import Shot
from ex4d.storage import replacing
from ex4d.trajectory import camera_move

Picture = NDArray[np.uint8]

ORBIT_DEG = 20
PANEL_PX = 640  # longer side of each of the four pictures
GAP_PX, MARGIN_PX, TITLE_PX, FOOT_PX, BAR_PX = 14, 16, 30, 34, 14
PAPER, INK, FAINT = (24, 24, 26), (230, 230, 230), (150, 150, 155)
UNSEEN, SKY = (255, 120, 30), (38, 52, 84)  # RGB
FONT = cv2.FONT_HERSHEY_SIMPLEX


def depth_check(shot: Shot) -> Picture:
    """Draw the depth check of a shot's middle frame.

    Returns:
        RGB uint8 [height, width, 3]
    """
    t = len(shot.frames) // 2
    frame, depth = shot.frames[t], shot.depth[t]
    sky = None if shot.sky is None else shot.sky[t]
    height, width = depth.shape
    cameras = camera_move(f"orbit:angle={ORBIT_DEG}", depth, shot.intrinsics, width, height, 2)
    cameras.source_frame[:] = 0
    view = render_conditioning(
        frame[None], depth[None], shot.intrinsics, shot.convention, cameras, sky=None if sky is None else sky[None]
    )
    aside, seen = view.color[1], view.mask[1]
    surfaces = depth if sky is None or sky.all() else depth[~sky]
    near, far = (float(z) for z in np.percentile(surfaces, [1, 99]))
    panels = {
        f"Plate, frame {shot.plate.first_frame + t}": _panel(frame),
        f"Depth: near {near:.3g}, far {far:.3g}": _with_bar(_panel(coloured_depth(depth, near, far, sky)), near, far),
        f"From {ORBIT_DEG} degrees aside": _panel(aside),
        f"Unseen from there: {1 - seen.mean():.1%}": _panel(_coverage(aside, seen)),
    }
    panel_height, panel_width = next(iter(panels.values())).shape[:2]
    cell_width, cell_height = panel_width + GAP_PX, TITLE_PX + panel_height + GAP_PX
    page = np.full(
        (2 * cell_height + FOOT_PX + MARGIN_PX - GAP_PX, 2 * MARGIN_PX + 2 * cell_width - GAP_PX, 3), PAPER, np.uint8
    )
    for n, (title, panel) in enumerate(panels.items()):
        left, top = MARGIN_PX + n % 2 * cell_width, n // 2 * cell_height
        _write(page, title, (left, top + TITLE_PX - 9), INK, 0.55)
        page[top + TITLE_PX : top + TITLE_PX + panel_height, left : left + panel_width] = panel
    focal_px = float(shot.intrinsics[0, 0])
    view_deg = 2 * math.degrees(math.atan(width / 2 / focal_px))
    info = shot.depth_info
    paid = {True: "", False: " - NOT FOR PAID WORK", None: ""}[info.commercial_use]
    foot = f"{info.source} ({info.kind}){paid}   lens {focal_px:.0f} px, {view_deg:.0f} degrees wide"
    _write(page, foot, (MARGIN_PX, page.shape[0] - 16), FAINT, 0.5)
    return page


def write_depth_check(path: Path, shot: Shot) -> None:
    """Write the depth check as a PNG or JPEG.

    Raises:
        StorageError: the name is no picture's, or the disk is full or refuses to be written.
    """
    if path.suffix.lower() not in {".png", ".jpg", ".jpeg"}:
        raise StorageError(f"'{path}' must end with .png or .jpg. Choose another name.")
    picture = cv2.cvtColor(depth_check(shot), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(path.suffix.lower(), picture)
    assert done
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def coloured_depth(
    depth: NDArray[np.float32], near: float, far: float, sky: NDArray[np.bool_] | None = None
) -> Picture:
    """Depth as colours, near bright and the sky blue: a step of colour is the same ratio of distances everywhere.

    Args:
        depth: z-depth. [H, W]
        near, far: z of the brightest and the darkest colour.
        sky: [H, W]

    Returns:
        RGB uint8 [H, W, 3]
    """
    share = np.clip(np.log(far / depth.astype(np.float64)) / max(math.log(far / near), 1e-9), 0, 1)
    colours = cv2.applyColorMap(np.rint(share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    picture = np.asarray(cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), np.uint8)
    if sky is not None:
        picture[sky] = SKY
    return picture


def _coverage(aside: Picture, seen: NDArray[np.bool_]) -> Picture:
    """What is seen in grey, what is not in a colour that no film has. [H, W, 3]"""
    grey = cv2.cvtColor(aside, cv2.COLOR_RGB2GRAY) // 2 + 50
    picture = np.repeat(grey[..., None], 3, axis=2)
    picture[~seen] = UNSEEN
    return np.asarray(picture, np.uint8)


def _panel(picture: Picture) -> Picture:
    scale = PANEL_PX / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)


def _with_bar(panel: Picture, near: float, far: float) -> Picture:
    """Put the colour scale on the panel's right edge, near at the top."""
    height = panel.shape[0]
    steps = np.geomspace(near, far, height)[:, None].repeat(BAR_PX, axis=1)
    panel[:, -BAR_PX:] = coloured_depth(steps.astype(np.float32), near, far)
    panel[:, -BAR_PX - 2 : -BAR_PX] = PAPER
    for place, text in ((0.0, near), (0.5, math.sqrt(near * far)), (1.0, far)):
        label = f"{text:.3g}"
        (wide, high), _ = cv2.getTextSize(label, FONT, 0.5, 1)
        where = (panel.shape[1] - BAR_PX - 8 - wide, int(high + 6 + place * (height - high - 12)))
        cv2.rectangle(panel, (where[0] - 4, where[1] - high - 4), (where[0] + wide + 3, where[1] + 5), PAPER, -1)
        _write(panel, label, where, INK, 0.5)
    return panel


def _write(page: Picture, text: str, where: tuple[int, int], colour: tuple[int, int, int], size: float) -> None:
    cv2.putText(page, text, where, FONT, size, colour, 1, cv2.LINE_AA)
