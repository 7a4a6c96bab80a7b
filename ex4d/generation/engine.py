# SPDX-License-Identifier: Apache-2.0
"""What every generation engine does: paint what the plate never saw."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ex4d.camera import CameraPath
from ex4d.conditioning import Conditioning
from ex4d.document import Json
from ex4d.errors import ShapeError
from ex4d.generation.options import GenerateOptions
from ex4d.progress import ProgressCallback
from ex4d.shot import Shot


@dataclass(frozen=True, eq=False)
class Painted:
    """The re-shot plate and how it came about."""

    frames: NDArray[np.uint8]  # RGB [N, h, w, 3]
    notices: tuple[str, ...] = ()  # what the artist must know about it
    settings: dict[str, Json] = field(default_factory=dict)  # what take.json keeps beside engine and seed
    commercial_use: bool | None = True  # whether what the options added to the engine allows paid work; None: unknown


def check_conditioning(cameras: CameraPath, conditioning: Conditioning) -> None:
    """Refuse what a camera path does not see.

    Raises:
        ShapeError: colour, mask and path differ in their count of frames or in their size.
    """
    size = (len(cameras), cameras.height, cameras.width)
    if conditioning.color.shape != (*size, 3) or conditioning.mask.shape != size:
        raise ShapeError(
            f"The take's colour is {list(conditioning.color.shape)} and its mask {list(conditioning.mask.shape)}; its "
            f"cameras ask for {[*size, 3]} and {list(size)}. Render the take again, and paint in its clips without "
            "changing their length or size."
        )


class Engine(Protocol):
    """Turns the conditioning of a take into the re-shot plate."""

    name: str  # in the registry and on the command line
    label: str  # in the panel
    licence: str
    commercial_use: bool | None  # None: unknown

    def need(self, options: GenerateOptions) -> None:
        """Refuse at once what this machine cannot do, before other work is done in vain.

        Raises:
            MachineError: something is missing; the message says how to get it.
        """

    def generate(
        self,
        shot: Shot,
        cameras: CameraPath,
        conditioning: Conditioning,
        options: GenerateOptions,
        progress: ProgressCallback | None = None,
    ) -> Painted:
        """Paint a take.

        Args:
            shot: the plate with its reconstruction.
            cameras: the path of the take.
            conditioning: what the plate shows along it.
            options: seed and settings; the same ones give the same pixels.
            progress: told after each frame or step.
        """
