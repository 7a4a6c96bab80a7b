# SPDX-License-Identifier: Apache-2.0
"""What learns and what is written: the release's layers, under the release's names."""

import json

import pytest
import torch
from diffsynth.configs.model_configs import wan_series
from diffsynth.models.wan_video_dit import WanModel
from peft import LoraConfig, inject_adapter_in_model
from tiny_training import command, run, tiny_config, tiny_lesson, tiny_network, tiny_trainer
from tiny_wan import SMALL, random_lora, tiny_dit, tiny_models, write_ex4d

from ex4d.errors import InputError
from ex4d.generation.wan.camera_encoder import ray_latent
from ex4d.generation.wan.checkpoint import EX4D_TARGETS, attach, read_ex4d
from ex4d.generation.wan.conditions import Conditions, beside_noise
from ex4d.generation.wan.loading import load_camera_encoder
from ex4d.generation.wan.reference_forward import ReferenceForward
from ex4d.training.adapter import (
    count,
    fill,
    fresh_camera_encoder,
    named,
    read_start,
    tensors_of,
    with_fresh_lora,
    write_adapter,
)
from ex4d.training.network import TrainedNetwork

CONFIG = next(
    entry["extra_kwargs"] for entry in wan_series if entry["model_hash"] == "6bfcfb3b342cb286ce886889d519a77e"
)


def test_at_full_size_99_8_million_numbers_learn_in_808_tensors():
    with torch.device("meta"):
        dit = WanModel(**CONFIG).bfloat16()
        with_fresh_lora(dit)
        network = TrainedNetwork(dit, fresh_camera_encoder(5120), torch.bfloat16)
    learning = named(network)
    lora = [name for name in learning if "lora_" in name]
    assert (len(lora), len(learning)) == (800, 808)
    assert round(count(learning.values()) / 1e6, 1) == 99.8
    assert {parameter.dtype for parameter in learning.values()} == {torch.float32}
    frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    assert {parameter.dtype for parameter in frozen} == {torch.bfloat16}
    assert round(count(frozen) / 1e9, 1) == 16.4
    assert learning["blocks.39.ffn.2.lora_A.default.weight"].shape == (16, 13824)


def test_a_fresh_adapter_changes_nothing_yet():
    models = tiny_models()
    lesson = tiny_lesson([0])
    latents, timestep = torch.randn(1, 16, 2, 4, 4), torch.tensor([700.0])
    told = Conditions(
        torch.zeros(1, SMALL.dim, 2, 2, 2),
        beside_noise(lesson.seen.still),
        lesson.seen.clip,
        {"positive": lesson.words},
    )
    expected = ReferenceForward(models.dit, told)(latents, timestep, "positive")
    torch.testing.assert_close(tiny_network()(latents, timestep, lesson.seen, lesson.words), expected)


def answers(network, path, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network says, and what painting says with the adapter that was exported from it."""
    lesson = tiny_lesson([0])
    latents, timestep = torch.randn(1, 16, 2, 4, 4), torch.tensor([700.0])
    with torch.no_grad():
        learned = network(latents, timestep, lesson.seen, lesson.words)
        adapter = read_ex4d(path, blocks=SMALL.layers)
        dit = tiny_dit(SMALL, dtype)
        attach(dit, [(adapter, 1.0)])
        encoder = load_camera_encoder(adapter, SMALL.dim, torch.device("cpu"), dtype)
        color, mask, still, clip = (getattr(lesson.seen, name).to(dtype) for name in ("color", "mask", "still", "clip"))
        told = Conditions(ray_latent(encoder, color, mask), beside_noise(still), clip, {"positive": lesson.words})
        return learned, ReferenceForward(dit, told)(latents, timestep, "positive")


@pytest.mark.parametrize("name", ["ex4d.ckpt", "mine.safetensors"])
def test_what_is_exported_paints_what_was_learned(tmp_path, name, capsys):
    trainer = tiny_trainer(tiny_config(tmp_path, steps=2, save_every=2), tiny_network(live=True))
    run(trainer)
    path = tmp_path / name
    assert command("export", tmp_path / "run", "--out", path, "--last", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["step"], said["paid work"]) == (2, "allowed")

    learned, painted = answers(trainer.network, path, torch.float32)
    torch.testing.assert_close(painted, learned, atol=2e-6, rtol=1e-6)


def test_in_bfloat16_training_computes_what_the_release_does(tmp_path):
    network = tiny_network(torch.bfloat16, live=True)
    path = tmp_path / "ex4d.ckpt"
    write_adapter(path, dict(named(network)))
    learned, painted = answers(network, path, torch.bfloat16)
    assert (learned - painted).norm() < 2e-3 * painted.norm()  # 3e-3: what bfloat16 is from float32


def test_the_mean_of_the_weights_is_exported_unless_the_last_are_asked_for(tmp_path):
    run(trainer := tiny_trainer(tiny_config(tmp_path, steps=3)))
    command("export", tmp_path / "run" / "step-00000003", "--out", tmp_path / "mean.ckpt")
    mean = tensors_of(read_ex4d(tmp_path / "mean.ckpt", blocks=SMALL.layers))
    assert all(torch.equal(mean[name], trainer.ema[name]) for name in trainer.ema)


def test_the_release_loads_what_is_exported(tmp_path):
    """As its generate.py: peft's names into a network with a LoRA, the rest into the camera encoder."""
    network = tiny_network(live=True)
    write_adapter(tmp_path / "ex4d.ckpt", named(network))
    content = torch.load(tmp_path / "ex4d.ckpt", weights_only=True)
    dit = tiny_dit()
    inject_adapter_in_model(LoraConfig(r=16, lora_alpha=16, target_modules=list(EX4D_TARGETS)), dit)
    missing = dit.load_state_dict(content, strict=False).missing_keys
    assert [name for name in missing if "lora_" in name] == []
    assert torch.equal(dit.blocks[1].ffn[2].lora_B["default"].weight, content["blocks.1.ffn.2.lora_B.default.weight"])
    assert fresh_camera_encoder(SMALL.dim, 32).load_state_dict(content, strict=False).missing_keys == []


def test_training_starts_from_the_release(tmp_path):
    models = tiny_models()
    path = write_ex4d(tmp_path, models)
    adapter = read_start(path, models.dit)
    network = tiny_network()
    fill(named(network), tensors_of(adapter), path.name)
    published = torch.load(path, weights_only=True)
    assert all(torch.equal(parameter.data, published[name]) for name, parameter in named(network).items())


def test_an_adapter_of_another_rank_or_network_is_no_start(tmp_path):
    models = tiny_models()
    path = tmp_path / "other.ckpt"
    torch.save({**random_lora(models.dit, rank=4), **models.camera_encoder.state_dict()}, path)
    with pytest.raises(InputError, match="rank 4"):
        read_start(path, models.dit)
    with pytest.raises(InputError, match="does not fit"):
        fill(named(tiny_network()), {}, "empty")


def test_only_a_whole_adapter_is_written_under_a_name_that_says_its_format(tmp_path):
    tensors = dict(named(tiny_network()))
    with pytest.raises(InputError, match=r"\.ckpt or \.safetensors"):
        write_adapter(tmp_path / "ex4d.pt", tensors)
    tensors.pop("latent_encoder.0.bias")
    with pytest.raises(InputError, match="no whole adapter"):
        write_adapter(tmp_path / "ex4d.ckpt", tensors)
    assert not list(tmp_path.iterdir())


def test_export_refuses_what_is_no_run(tmp_path):
    for folder, said in ((tmp_path, "no checkpoint"), (tmp_path / "none", "no folder")):
        with pytest.raises(InputError, match=said):
            command("export", folder, "--out", tmp_path / "ex4d.ckpt")
