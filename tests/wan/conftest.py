# SPDX-License-Identifier: Apache-2.0
"""Wan2.1's real classes with tiny random weights, on the CPU."""

import importlib.util
import os

import pytest
import torch


def _declare_torchvision_operators() -> None:
    """Let a torchvision built for CUDA load beside a torch without it: it registers shapes for kernels it lacks there.

    The networks use none of these operators; diffsynth and transformers only import the package.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["_library"] = library  # its declarations last as long as the object


if importlib.util.find_spec("torchvision") is not None and not torch.cuda.is_available():
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        _declare_torchvision_operators()


@pytest.fixture(autouse=True)
def _one_thread():
    """The same sums in the same order on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Prompts that were read go to a folder of this run."""
    os.environ["EX4D_CACHE"] = str(tmp_path_factory.mktemp("cache"))
