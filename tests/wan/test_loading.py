# SPDX-License-Identifier: Apache-2.0
"""Loading the published files, with tiny networks in them, through the code that loads the real ones."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from published import publish, publish_adapter
from safetensors.torch import load_file, save_file
from tiny_wan import Size, random_lora, tiny_dit, tiny_image_encoder, tiny_text_encoder, tiny_vae

from ex4d.errors import Cancelled, InputError, MachineError
from ex4d.generation.options import Lora
from ex4d.generation.wan.checkpoint import LinearWithLoRA, fuse, read_ex4d
from ex4d.generation.wan.files import described, find_wan_files, text_encoder_id, wan_files
from ex4d.generation.wan.fp8 import RowScaledLinear
from ex4d.generation.wan.loading import load_dit, load_image_encoder, load_models, load_text_encoder, load_vae
from ex4d.generation.wan.modes import MODES
from ex4d.models import MODELS, look
from ex4d.models.record import FileRecord, Record, write_record
from ex4d.models.registry import CLIP, DRAFT_LORA, EX4D_ADAPTER, T5, VAE, WAN_SHARDS
from ex4d.models.verify import verify

CPU = torch.device("cpu")


@pytest.fixture
def models_root(tmp_path, monkeypatch):
    monkeypatch.setenv("EX4D_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    publish(root)
    return root


@pytest.fixture
def files(models_root, published):
    shutil.copytree(published, models_root, dirs_exist_ok=True)
    return wan_files(models_root / MODELS["wan"].repository, models_root / MODELS["ex4d"].repository / EX4D_ADAPTER)


def assert_same(found: torch.nn.Module, expected: torch.nn.Module, dtype: torch.dtype) -> None:
    wanted = expected.state_dict()
    got = found.state_dict()
    got.pop("model.log_scale", None)
    assert got.keys() == wanted.keys()
    for name, value in got.items():
        assert value.dtype == dtype, name
        assert torch.equal(value, wanted[name].to(dtype)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_network_comes_back_with_its_weights(files, dtype):
    assert_same(load_dit(files, CPU, dtype), tiny_dit(), dtype)
    assert_same(load_vae(files, CPU, dtype), tiny_vae(), dtype)
    assert_same(load_image_encoder(files, CPU, dtype), tiny_image_encoder(), dtype)
    assert_same(load_text_encoder(files, dtype).network, tiny_text_encoder().network, dtype)


def test_loaded_networks_answer_as_those_that_were_saved(files):
    text, picture = load_text_encoder(files, torch.float32), load_image_encoder(files, CPU, torch.float32)
    ids, mask = text.tokenizer("a  flower &amp; turns", return_mask=True, add_special_tokens=True)
    assert ids.shape == mask.shape == (1, 512)
    assert ids[0, :6].tolist() == [3, 4, 2, 5, 1, 0]
    frame = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(text.network(ids, mask), tiny_text_encoder().network(ids, mask))
        saved = tiny_image_encoder().encode_image([frame.clone()])
        assert torch.equal(picture.encode_image([frame.clone()]), saved)


def test_everything_together_fused_for_fast_and_beside_for_reference(files):
    expected = tiny_dit()
    fuse(expected, [(read_ex4d(files.adapter, blocks=2), 1.0)])
    fast = load_models(files, CPU, torch.bfloat16)
    assert_same(fast.dit, expected, torch.bfloat16)
    assert fast.dtype == torch.bfloat16
    assert fast.camera_encoder["latent_patch_embedding"].weight.shape == (24, 32, 1, 2, 2)
    assert fast.load_text_encoder().network.dim == 16
    reference = load_models(files, CPU, torch.bfloat16, "reference")
    layer = reference.dit.blocks[1].ffn[2]
    assert isinstance(layer, LinearWithLoRA)
    assert torch.equal(layer.weight, tiny_dit().blocks[1].ffn[2].weight.bfloat16())


def test_other_loras_are_stacked_with_their_strengths(files, tmp_path):
    path = tmp_path / "look.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in random_lora(tiny_dit(), seed=11).items()}, path)
    one = load_models(replace(files, loras=((path, 0.0),)), CPU, torch.float32).dit
    other = load_models(replace(files, loras=((path, 0.5),)), CPU, torch.float32).dit
    assert torch.equal(one.blocks[0].ffn[0].weight, load_models(files, CPU, torch.float32).dit.blocks[0].ffn[0].weight)
    assert not torch.equal(one.blocks[0].ffn[0].weight, other.blocks[0].ffn[0].weight)


def test_blocks_are_handed_on_one_by_one_with_their_final_weights(files):
    seen = []

    def quantise(dit: torch.nn.Module, number: int) -> None:
        block = dit.blocks[number]
        assert {value.dtype for value in block.parameters()} == {torch.bfloat16}
        block.ffn[0] = RowScaledLinear(block.ffn[0])
        seen.append(number)

    models = load_models(files, CPU, torch.bfloat16, each_block=quantise)
    assert seen == [0, 1]
    assert isinstance(models.dit.blocks[1].ffn[0], RowScaledLinear)


def test_loading_can_be_cancelled(files):
    def cancel(report):
        if report.i == 1:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        load_models(files, CPU, torch.bfloat16, progress=cancel)


# ---------------------------------------------------------------------------------------------------- the files


def test_files_are_found_in_the_models_folder_and_what_lacks_is_said(files, models_root):
    found = find_wan_files(MODES["lossless"])
    assert found.dit[6].name == WAN_SHARDS[6]
    assert found.loras == ()
    with pytest.raises(MachineError, match="ex4d models download draft"):
        find_wan_files(MODES["draft"])
    draft = models_root / MODELS["draft"].repository / DRAFT_LORA
    draft.parent.mkdir(parents=True)
    save_file({"a": torch.zeros(1)}, draft)
    own = models_root / "loras" / "grain.safetensors"
    own.parent.mkdir()
    own.write_bytes(draft.read_bytes())
    assert find_wan_files(MODES["draft"], [Lora("grain", 0.7)]).loras == ((draft, 1.0), (own, 0.7))
    with pytest.raises(MachineError, match=r"no LoRA 'dust' in '.*loras'"):
        find_wan_files(MODES["lossless"], [Lora("dust")])


def test_a_take_can_say_which_weights_it_was_made_with(files):
    assert described(files) == {"wan": "Wan-AI/Wan2.1-I2V-14B-480P", "ex4d": "yihouxiang/EX-4D", "loras": []}
    by_hand = text_encoder_id(files)
    size = files.text_encoder.stat().st_size
    write_record(files.vae.parent, Record(MODELS["wan"].repository, "abc", {T5: FileRecord(size, "f" * 64)}))
    assert described(files)["wan"] == "Wan-AI/Wan2.1-I2V-14B-480P at abc"
    assert text_encoder_id(files) == "f" * 64 != by_hand


def test_verifying_counts_the_tensors_of_ex4d_s_adapter(files):
    assert look(MODELS["ex4d"]).state == "complete"
    (check,) = verify(MODELS["ex4d"])
    assert check.fault == "holds 48 tensors and should hold 808"
    torch.save({"step": 1}, files.adapter)
    (check,) = verify(MODELS["ex4d"])
    assert check.fault == "holds no weights"


# -------------------------------------------------------------------------------------------------- bad input


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", [WAN_SHARDS[2], T5, CLIP, VAE])
def test_a_truncated_file_is_named_with_the_remedy(files, name):
    cut(files.vae.parent / name)
    with pytest.raises(MachineError, match=rf"{re.escape(name)}' does not open as weights.*ex4d models verify wan"):
        load_models(files, CPU, torch.float32).load_text_encoder()


def test_a_missing_shard_is_named(files):
    files.dit[4].unlink()
    with pytest.raises(MachineError, match=r"00005-of-00007\.safetensors' is missing\..*ex4d models verify wan"):
        load_dit(files, CPU, torch.float32)


def test_missing_and_foreign_weights_are_counted_and_named(files):
    shard = load_file(files.dit[0])
    lost = sorted(shard)[0]
    moved = {f"other.{name}" if name == lost else name: tensor.clone() for name, tensor in shard.items()}
    save_file(moved, files.dit[0])
    with pytest.raises(MachineError) as error:
        load_dit(files, CPU, torch.float32)
    count = len(tiny_dit().state_dict())
    assert f"{count} tensors were expected, {count} are there" in str(error.value)
    assert f"Missing: {lost}. Not expected: other.{lost}." in str(error.value)


def test_a_weight_of_another_shape_is_named(files):
    vae = torch.load(files.vae, weights_only=True)
    vae["decoder.head.2.bias"] = torch.zeros(5)
    torch.save(vae, files.vae)
    with pytest.raises(MachineError, match=r"does not hold the VAE.*decoder\.head\.2\.bias is \[5\], not \[3\]"):
        load_vae(files, CPU, torch.float32)


def test_a_text_to_video_network_is_told_from_the_right_one(files):
    for shard in files.dit:
        weights = load_file(shard)
        if "patch_embedding.weight" in weights:
            weights["patch_embedding.weight"] = weights["patch_embedding.weight"][:, :16].contiguous()
            save_file(weights, shard)
    with pytest.raises(MachineError, match="16 input channels; image to video has 36"):
        load_dit(files, CPU, torch.float32)


@pytest.mark.parametrize("content", ["{", "[]", '{"num_heads": "many"}'])
def test_a_configuration_that_says_nothing_is_named(files, content):
    files.config.write_text(content, encoding="utf-8")
    with pytest.raises(
        MachineError, match=r"config\.json' does not open as the DiT's configuration.*models verify wan"
    ):
        load_dit(files, CPU, torch.float32)


def test_heads_that_do_not_part_the_channels_are_refused(files):
    files.config.write_text('{"num_heads": 7}', encoding="utf-8")
    with pytest.raises(
        MachineError, match=r"config\.json' says that 24 channels are those of 7 heads\. Check the files"
    ):
        load_dit(files, CPU, torch.float32)


def test_another_network_in_a_file_s_place_is_said(files):
    files.vae.write_bytes(files.image_encoder.read_bytes())
    with pytest.raises(MachineError, match=r"Wan2.1_VAE\.pth' does not hold the VAE of Wan2\.1"):
        load_vae(files, CPU, torch.float32)


def test_an_adapter_for_a_network_of_another_width_is_refused(files, tmp_path):
    wide = publish_adapter(tmp_path / "wide.ckpt", Size(dim=36))
    with pytest.raises(
        InputError, match=r"wide\.ckpt.*another model: .* is \[24, 24\] here and \[36, 36\] in the LoRA"
    ):
        load_models(replace(files, adapter=wide), CPU, torch.float32)


@pytest.mark.parametrize("content", [None, "{}", "<html>"])
def test_without_its_tokenizer_the_text_encoder_says_so(files, content):
    path = files.tokenizer / "tokenizer.json"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(MachineError, match=r"tokenizer\.json' does not open as a tokenizer.*ex4d models verify wan"):
        load_text_encoder(files, torch.float32)
