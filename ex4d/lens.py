# SPDX-License-Identifier: Apache-2.0
"""The lens of a plate: as given, as the file's own notes say, or a guess."""

import math
from pathlib import Path

from ex4d.camera import Convention, focal_px_from_lens
from ex4d.errors import InputError
from ex4d.video_decode import opened

REFERENCE_FOCAL_PX = 500.0  # the release's fixed focal length, recon.py
GUESSED_LENS_MM = 35.0  # a common prime on a full-frame back; only used when nobody knows better, and then said
GUESSED_BACK_MM = 36.0
FULL_FRAME_DIAGONAL_MM = math.hypot(36, 24)  # "35 mm equivalent" compares diagonals (CIPA DCG-001)
# Endings of the names under which phones and cameras note it: Apple's QuickTime key, and Exif's own name.
EQUIVALENT_KEYS = ("focal_length.35mm_equivalent", "focallengthin35mmfilm", "focallength35efl")


def asked_focal_px(
    focal_px: float | None, lens_mm: float | None, sensor_width_mm: float | None, convention: Convention, width: int
) -> float | None:
    """The focal length that the artist gives, in pixels of a plate `width` wide, or None.

    Raises:
        InputError: it is given twice, by half, or is no length.
    """
    if focal_px is not None and lens_mm is not None:
        raise InputError("Give the focal length once: focal_px, or lens_mm with sensor_width_mm, not both.")
    if (lens_mm is None) != (sensor_width_mm is None):
        raise InputError(
            f"A lens needs its sensor: got lens_mm={lens_mm} and sensor_width_mm={sensor_width_mm}, give both."
        )
    if focal_px is not None:
        if not 0 < focal_px < math.inf:
            raise InputError(f"focal_px must be a positive number of pixels, got {focal_px}.")
        return focal_px
    if lens_mm is not None and sensor_width_mm is not None:
        return focal_px_from_lens(lens_mm, sensor_width_mm, width)
    return REFERENCE_FOCAL_PX if convention == "reference" else None


def noted_focal_px(plate: Path, width: int, height: int) -> tuple[float, str] | None:
    """The focal length that the file notes about itself, in pixels, with a notice for the artist; or None.

    Args:
        plate: the video file.
        width, height: of the plate as it is used.
    """
    with opened(plate) as (container, stream):
        notes = {**container.metadata, **stream.metadata}
    for key, text in notes.items():
        if key.lower().replace("_", "").endswith(tuple(k.replace("_", "") for k in EQUIVALENT_KEYS)):
            try:
                equivalent_mm = float(text.split()[0])
            except (ValueError, IndexError):
                continue
            if 1 <= equivalent_mm <= 2000:  # what lenses there are
                focal_px = equivalent_mm / FULL_FRAME_DIAGONAL_MM * math.hypot(width, height)
                return focal_px, (
                    f"The lens comes from the file's own notes: {equivalent_mm:g} mm equivalent ({focal_px:.1f} px). "
                    "Digital zoom and stabilisation are not in it; give the real lens if you know it."
                )
    return None


def guessed_focal_px(width: int) -> tuple[float, str]:
    """A focal length when nobody knows better, in pixels, with a notice for the artist."""
    guess = focal_px_from_lens(GUESSED_LENS_MM, GUESSED_BACK_MM, width)
    lens = f"a {GUESSED_LENS_MM:g} mm lens on a {GUESSED_BACK_MM:g} mm back ({guess:.1f} px)"
    return guess, f"The lens is unknown: {lens} is assumed. Give the real one for true parallax."
