# SPDX-License-Identifier: Apache-2.0
"""Pictures from the tiny decoder.

`golden/tiny_decoder.npz` was made by TAEHV's own code (madebyollin/taehv at 1f14a56, without upscaling in time and
without the last one in space) from the weights and latents below.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ex4d.errors import MachineError
from ex4d.generation.wan.tiny_decoder import read_tiny_decoder, shapes

CPU = torch.device("cpu")
LATENTS = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 16, 5, 4, 6), np.float32))


def weights():
    """Scaled so that numbers neither vanish nor grow on their way."""
    random = np.random.default_rng(0)
    made = {}
    for name, shape in sorted(shapes().items()):
        values = random.standard_normal(shape, np.float32) * (1.2 / np.sqrt(np.prod(shape[1:]) or 1))
        made[name] = torch.from_numpy(values.astype(np.float32) * (0.1 if len(shape) == 1 else 1))
    made["22.weight"] *= 0.15
    made["22.bias"] = torch.full((3,), 0.8)
    return made


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("previews") / "taew2_1.safetensors"
    save_file({f"decoder.{name}": value for name, value in weights().items()} | {"encoder.0.bias": torch.ones(1)}, path)
    return path


def test_it_shows_what_the_autoencoder_s_own_code_shows(file):
    with np.load(Path(__file__).parent / "golden" / "tiny_decoder.npz", allow_pickle=False) as stored:
        golden = stored["picture"]
    assert golden.std() > 20
    picture = read_tiny_decoder(file, CPU, torch.float32).picture(LATENTS, 3)
    assert (picture.dtype, picture.shape) == (np.uint8, (16, 24, 3))
    assert np.abs(picture.astype(int) - golden).max() <= 1


def test_a_frame_is_shown_with_what_came_before_it_and_nothing_else(file):
    decoder = read_tiny_decoder(file, CPU, torch.float32)
    later, earlier, far = (LATENTS.clone() for _ in range(3))
    later[:, :, 4:], earlier[:, :, 2], far[:, :, 0] = 0, 0, 0
    shown = decoder.picture(LATENTS, 3)
    assert np.array_equal(decoder.picture(later, 3), shown)
    assert np.array_equal(decoder.picture(far, 3), shown)
    assert not np.array_equal(decoder.picture(earlier, 3), shown)
    assert decoder.picture(LATENTS, 0).shape == shown.shape


def test_another_file_is_named_with_the_remedy(tmp_path):
    lost = weights()
    del lost["14.weight"]
    save_file({f"decoder.{name}": value for name, value in lost.items()}, tmp_path / "a.safetensors")
    with pytest.raises(
        MachineError, match=r"'a\.safetensors' does not hold .*: 14\.weight differ.*models verify previews"
    ):
        read_tiny_decoder(tmp_path / "a.safetensors", CPU, torch.float32)
    (tmp_path / "b.safetensors").write_bytes(b"<html>")
    with pytest.raises(MachineError, match=r"b\.safetensors' does not open as weights.*models verify previews"):
        read_tiny_decoder(tmp_path / "b.safetensors", CPU, torch.float32)
