# SPDX-License-Identifier: Apache-2.0
"""LPIPS, by its authors' package `lpips`, where it and AlexNet's weights are on this machine. Nothing is downloaded."""

import importlib
import warnings
from pathlib import Path
from typing import Any

from ex4d.camera import Array
from ex4d.errors import MachineError
from ex4d.progress import ProgressCallback, track

ALEXNET = "alexnet-owt-7be5be79.pth"  # torchvision's file of the weights that LPIPS was trained on


def lpips_distances(pictures: Array, truth: Array, progress: ProgressCallback | None = None) -> list[float]:
    """The distance of each picture to its truth: 0 for the same.

    Args:
        pictures, truth: uint8 [K, h, w, 3]

    Raises:
        MachineError: the package or the weights are missing; the message tells what to do.
    """
    network, torch = _network()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.to(device)

    def prepared(picture: Array) -> Any:
        return torch.from_numpy(picture.copy()).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1

    with torch.no_grad():
        return [
            float(network(prepared(picture), prepared(true)))
            for picture, true in track(list(zip(pictures, truth, strict=True)), "Measuring LPIPS", progress)
        ]


def _network() -> tuple[Any, Any]:
    try:
        torch = importlib.import_module("torch")
        package = importlib.import_module("lpips")
    except ImportError as error:
        raise MachineError("the package is not installed: pip install lpips torchvision") from error
    weights = Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET
    if not weights.is_file():
        raise MachineError(f"AlexNet's weights are not here: put torchvision's {ALEXNET} into {weights.parent}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package uses names that torchvision has deprecated
        return package.LPIPS(net="alex", verbose=False).eval(), torch
