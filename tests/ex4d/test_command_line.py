# SPDX-License-Identifier: Apache-2.0
"""What every command does beside its work."""

import os
import sys

import pytest

from ex4d.cli import main


@pytest.fixture
def _no_choice_of_memory(monkeypatch):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.setenv(name, "")  # put back afterwards, whatever a command does
        monkeypatch.delenv(name)


@pytest.mark.skipif(sys.platform != "linux", reason="torch knows growing memory on Linux only")
@pytest.mark.usefixtures("_no_choice_of_memory")
def test_gpu_memory_grows_in_place_unless_the_user_chose_otherwise(monkeypatch):
    main(["models", "list"])
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"

    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "backend:native")
    main(["models", "list"])
    assert os.environ["PYTORCH_ALLOC_CONF"] == "backend:native"

    monkeypatch.delenv("PYTORCH_ALLOC_CONF")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "backend:native")
    main(["models", "list"])
    assert "PYTORCH_ALLOC_CONF" not in os.environ
