# SPDX-License-Identifier: Apache-2.0
"""Import this before torchvision, diffsynth or transformers where torchvision may not fit torch."""

import importlib.util


def _let_torchvision_load() -> object | None:
    """Let a torchvision built for CUDA load beside a torch without it: it registers shapes for kernels it lacks there.

    The networks use none of these operators; diffsynth and transformers only import the package. Returns what has to be
    kept for as long as the declarations should last.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


_operators = _let_torchvision_load()
