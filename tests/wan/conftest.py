# SPDX-License-Identifier: Apache-2.0
"""Wan2.1's real classes with tiny random weights, on the CPU."""

import os

import pytest
import torch


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
