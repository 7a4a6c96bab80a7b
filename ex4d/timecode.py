# SPDX-License-Identifier: Apache-2.0
"""SMPTE timecode: the name of a frame, hours:minutes:seconds:frames."""

import re
from fractions import Fraction

TIMECODE = re.compile(r"(\d{2}):(\d{2}):(\d{2})([:;.])(\d{2,3})")


def shifted(timecode: str, frames: int, fps: Fraction) -> str | None:
    """The timecode of a later frame.

    Args:
        timecode: of a frame; with ; or . before the frames it drops numbers (29.97 and 59.94 frames per second).
        frames: how much later.
        fps: of the clip.

    Returns:
        None when it is no timecode at this rate.
    """
    match = TIMECODE.fullmatch(timecode.strip())
    base = round(fps)
    if match is None or base < 1:
        return None
    hours, minutes, seconds, number = (int(match[part]) for part in (1, 2, 3, 5))
    if minutes > 59 or seconds > 59 or number >= base:
        return None
    # SMPTE ST 12-1: 2 numbers (4 at 59.94) are left out in every minute but each tenth.
    dropped = base // 15 if match[4] != ":" and base in (30, 60) else 0
    whole_minutes = 60 * hours + minutes
    index = (60 * whole_minutes + seconds) * base + number - dropped * (whole_minutes - whole_minutes // 10)
    index += frames
    per_minute, per_ten = 60 * base - dropped, 600 * base - 9 * dropped
    index %= 144 * per_ten
    tens, rest = divmod(index, per_ten)
    later = max(0, (rest - dropped) // per_minute) if dropped else rest // per_minute
    index += dropped * (9 * tens + later)
    number, seconds = index % base, index // base
    width = len(match[5])
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{match[4]}{number:0{width}}"
