# SPDX-License-Identifier: Apache-2.0
"""LPIPS by torchmetrics, where it and AlexNet's weights are on this machine. Nothing is downloaded."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ex4d.camera import Array
from ex4d.errors import MachineError
from ex4d.progress import ProgressCallback, track

ALEXNET = "alexnet-owt-7be5be79.pth"  # torchvision's file of the weights under LPIPS' own, which torchmetrics brings


def lpips_distances(pictures: Array, truth: Array, progress: ProgressCallback | None = None) -> list[float]:
    """The distance of each picture to its truth: 0 for the same.

    Args:
        pictures, truth: uint8 [K, h, w, 3]

    Raises:
        MachineError: a package or the weights are missing; the message tells what to do.
    """
    torch, lpip, _ = packages("LPIPS", ("torch", "torchmetrics.image.lpip", "torchvision"), "torchmetrics torchvision")
    weights = Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET
    if not weights.is_file():
        raise MachineError(f"AlexNet's weights are not here: put torchvision's {ALEXNET} into {weights.parent}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = lpip.LearnedPerceptualImagePatchSimilarity(net_type="alex").to(device)

    def prepared(picture: Array) -> Any:
        return torch.from_numpy(picture.copy()).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1

    with torch.no_grad():
        return [
            float(network(prepared(picture), prepared(true)))
            for picture, true in track(list(zip(pictures, truth, strict=True)), "Measuring LPIPS", progress)
        ]


def packages(judge: str, modules: Sequence[str], names: str) -> list[Any]:
    """Modules of other packages.

    Args:
        judge: what needs them.
        modules: to import.
        names: of the packages, as pip knows them.

    Raises:
        MachineError: one is not installed.
    """
    try:
        return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        raise MachineError(f"{judge} needs packages that are not installed: pip install {names}") from error
