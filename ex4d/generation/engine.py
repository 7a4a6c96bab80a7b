# SPDX-License-Identifier: Apache-2.0
"""What every generation engine does: paint what the plate never saw."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ex4d.camera import CameraPath
from ex4d.conditioning import Conditioning
from ex4d.progress import ProgressCallback
from ex4d.shot import Shot


class Engine(Protocol):
    """Turns the conditioning of a take into the re-shot plate."""

    name: str  # in the registry and on the command line
    label: str  # in the panel
    licence: str
    commercial_use: bool
    notices: tuple[str, ...]  # what the artist must know about its results

    def generate(
        self,
        shot: Shot,
        cameras: CameraPath,
        conditioning: Conditioning,
        seed: int = 0,
        progress: ProgressCallback | None = None,
    ) -> NDArray[np.uint8]:
        """Paint a take.

        Args:
            shot: the plate with its reconstruction.
            cameras: the path of the take.
            conditioning: what the plate shows along it.
            seed: of every random choice: the same seed gives the same pixels.
            progress: told after each frame.

        Returns:
            RGB uint8 [N, h, w, 3]
        """
