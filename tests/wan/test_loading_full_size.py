# SPDX-License-Identifier: Apache-2.0
"""Loading at full size without weights: names and shapes of the published files, on torch's device without memory."""

import json

import pytest
import torch
from diffsynth.configs.model_configs import wan_series
from diffsynth.core.loader.file import hash_state_dict_keys
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.models.wan_video_image_encoder import XLMRobertaCLIP
from diffsynth.models.wan_video_text_encoder import WanTextEncoder
from diffsynth.models.wan_video_vae import VideoVAE_

from ex4d.errors import InputError
from ex4d.generation.wan import checkpoint, loading
from ex4d.generation.wan.camera_encoder import camera_encoder
from ex4d.generation.wan.checkpoint import CAMERA_NAMES, EX4D_TARGETS, fuse
from ex4d.generation.wan.files import wan_files
from ex4d.models.registry import CLIP, EX4D_ADAPTER, T5, VAE, WAN_SHARDS

META = torch.device("meta")
RANK = 16  # of ex4d.ckpt
CONFIG = next(
    entry["extra_kwargs"] for entry in wan_series if entry["model_hash"] == "6bfcfb3b342cb286ce886889d519a77e"
)

Weights = dict[str, torch.Tensor]


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device=META)


@pytest.fixture(scope="module")
def published() -> dict[str, Weights]:
    """What each file holds."""
    with META:
        dit, t5, vae, clip = WanModel(**CONFIG), WanTextEncoder(), VideoVAE_(), XLMRobertaCLIP()
        camera = camera_encoder().state_dict()
    weights = dit.state_dict()
    shards = {shard: dict(list(weights.items())[number::7]) for number, shard in enumerate(WAN_SHARDS)}
    lora = {}
    for block in range(40):
        for target in EX4D_TARGETS:
            out_width, in_width = dit.get_submodule(f"blocks.{block}.{target}").weight.shape
            lora[f"blocks.{block}.{target}.lora_A.default.weight"] = meta(RANK, in_width)
            lora[f"blocks.{block}.{target}.lora_B.default.weight"] = meta(out_width, RANK)
    return {
        **shards,
        T5: t5.state_dict(),
        VAE: vae.state_dict(),
        CLIP: {**clip.state_dict(), "textual.token_embedding.weight": meta(250002, 1024)},
        EX4D_ADAPTER: {**lora, **camera},
    }


@pytest.fixture
def files(published, tmp_path, monkeypatch):
    for module in (loading, checkpoint):
        monkeypatch.setattr(module, "read_tensors", lambda path, remedy: dict(published[path.name]))
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 40, "eps": 1e-06}), encoding="utf-8")
    (tmp_path / T5).write_bytes(b"")
    return wan_files(tmp_path, tmp_path / EX4D_ADAPTER)


@pytest.mark.parametrize(
    ("names", "known"),
    [  # diffsynth 2.1.12 knows the files of Wan-AI by the md5 of their names and shapes
        (WAN_SHARDS, "6bfcfb3b342cb286ce886889d519a77e"),
        ((T5,), "9c8818c2cbea55eca56c7b447df170da"),
        ((VAE,), "ccc42284ea13e1ad04693284c7a09be6"),
    ],
)
def test_names_and_shapes_are_those_of_the_files_on_the_hub(published, names, known):
    weights: Weights = {}
    for name in names:
        weights |= published[name]
    assert hash_state_dict_keys(weights) == known


def test_all_networks_load_at_full_size_with_800_and_8_tensors_of_ex4d(files, published):
    assert len(published[EX4D_ADAPTER]) == 808
    models = loading.load_models(files, META, torch.bfloat16)
    dit = models.dit
    assert (dit.dim, len(dit.blocks), dit.blocks[0].num_heads) == (5120, 40, 40)
    assert sum(value.numel() for value in dit.parameters()) == 16_394_878_784  # 65.6 GB of float32, 32.8 of bfloat16
    assert {value.dtype for value in dit.parameters()} == {torch.bfloat16}
    assert sum(value.numel() for value in models.camera_encoder.parameters()) == 23_109_632
    assert models.vae.model.dim == 96
    assert len(models.image_encoder.model.visual.transformer) == 32
    assert models.image_encoder.model.image_size == 224


def test_the_reference_keeps_400_loras_beside_the_weights(files):
    dit = loading.load_models(files, META, torch.bfloat16, "reference").dit
    beside = [module for module in dit.modules() if isinstance(module, checkpoint.LinearWithLoRA)]
    assert len(beside) == 400
    assert {(module.downs[0].shape[0], module.scales[0]) for module in beside} == {(RANK, 1.0)}


def test_one_lora_of_800_missing_or_one_too_much_is_refused(files, published, monkeypatch):
    lost = dict(published[EX4D_ADAPTER])
    for half in "AB":
        del lost[f"blocks.39.ffn.2.lora_{half}.default.weight"]
    monkeypatch.setitem(published, EX4D_ADAPTER, lost)
    with pytest.raises(InputError, match=r"800 LoRA \+ 8 camera tensors were expected, 798 \+ 8 tensors are there.*39"):
        loading.load_models(files, META, torch.bfloat16)
    monkeypatch.setitem(published, EX4D_ADAPTER, {name: meta(1) for name in CAMERA_NAMES})
    with pytest.raises(InputError, match=r"0 \+ 8 tensors are there\. Missing: blocks.* and 397 more"):
        loading.load_models(files, META, torch.bfloat16)


def test_an_adapter_of_the_small_wan_does_not_fit(files, published, monkeypatch):
    small = {"blocks.0.ffn.0.lora_A.weight": meta(16, 1536), "blocks.0.ffn.0.lora_B.weight": meta(8960, 16)}
    monkeypatch.setitem(published, "small.ckpt", small)
    adapter = checkpoint.read_adapter(files.adapter.with_name("small.ckpt"))
    dit = loading.load_dit(files, META, torch.bfloat16)
    with pytest.raises(InputError, match=r"blocks\.0\.ffn\.0 is \[13824, 5120\] here and \[8960, 1536\] in the LoRA"):
        fuse(dit, [(adapter, 1.0)])
