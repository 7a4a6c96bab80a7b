# SPDX-License-Identifier: Apache-2.0
"""A picture of how a job comes along, small enough to be sent every second."""

from typing import TYPE_CHECKING

from shared_protocol.messages import PREVIEW_LIMIT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST_SIDE = 512  # pixels; a panel shows no more
QUALITIES = (80, 60, 40, 20)  # tried until the picture fits; a filmed frame takes 20-50 kB at 80


def preview_jpeg(picture: "NDArray[np.uint8]") -> bytes | None:
    """A picture as JPEG of at most PREVIEW_LIMIT bytes.

    Args:
        picture: uint8, RGB. [h, w, 3]

    Returns:
        The file's bytes; None for what is no picture, because a preview is not worth a job.
    """
    import cv2  # only here: a worker that shows nothing starts faster without it

    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != "uint8" or not picture.size:
        return None
    height, width = picture.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype("uint8")
    for quality in QUALITIES:
        jpeg: bytes = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(jpeg) <= PREVIEW_LIMIT:
            return jpeg
    return None
