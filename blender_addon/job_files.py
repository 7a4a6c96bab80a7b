# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a reconstruct job that have to be looked for or written first: slow, so for the background thread."""

from dataclasses import dataclass
from pathlib import Path

from .depth_files import depth_inputs
from .picture_files import pack
from .solve import Solve, write_solve

PACKED = "plate.zip"  # in the shot's folder until the reconstruction has arrived


@dataclass(frozen=True)
class JobFiles:
    """What is to be gathered."""

    folder: Path  # the shot's
    plate: Path  # a movie, or the first picture of a sequence
    numbers: range | None  # of the pictures used
    frame_count: int  # used
    depth: Path | None
    solved: Solve | None
    with_points: bool  # of the solve: a depth source with its own scale refuses them

    @property
    def is_slow(self) -> bool:
        """Whether there is anything to look for or to write."""
        return self.numbers is not None or self.depth is not None or self.solved is not None

    def gather(self) -> dict[str, Path]:
        """Return the job's input files by role.

        Raises:
            ShotDataError: a file is missing, or cannot be read or written; the message names the frame.
        """
        is_movie = self.numbers is None
        inputs = {"plate": self.plate if is_movie else pack(self.folder / PACKED, self.plate, self.numbers)}
        if self.depth is not None:
            inputs |= depth_inputs(self.depth, self.frame_count)
        if self.solved is not None:
            inputs |= write_solve(self.folder, self.solved, self.with_points)
        return inputs
