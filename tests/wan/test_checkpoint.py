# SPDX-License-Identifier: Apache-2.0
"""Reading adapters strictly; adding them to the weights or running them beside those: the same within rounding."""

import copy
from pathlib import Path

import pytest
import torch
from diffsynth.pipelines.wan_video import WanVideoPipeline
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from tiny_wan import Size, random_lora, tiny_dit
from torch.testing import assert_close

from ex4d.errors import InputError, MachineError
from ex4d.generation.wan.camera_encoder import camera_encoder
from ex4d.generation.wan.checkpoint import CAMERA_NAMES, LinearWithLoRA, attach, fuse, read_adapter, read_ex4d
from ex4d.generation.wan.conditions import Conditions
from ex4d.generation.wan.reference_forward import ReferenceForward

LAYER = "blocks.0.self_attn.q"


@pytest.fixture
def dit():
    return tiny_dit()


def ex4d_tensors(dit) -> dict[str, torch.Tensor]:
    """What `ex4d.ckpt` holds, for a network of two blocks: 40 + 8 tensors."""
    return {**random_lora(dit), **camera_encoder(hidden=32, tokens=dit.dim).state_dict()}


def saved(folder: Path, tensors: dict[str, torch.Tensor], name: str = "ex4d.ckpt") -> Path:
    path = folder / name
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


def one_layer(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"diffusion_model.{LAYER}.{name.replace('__', '.')}": value for name, value in tensors.items()}


# ------------------------------------------------------------------------------------------------------- reading


def test_ex4d_s_adapter_is_read_whole_from_either_kind_of_file(tmp_path, dit):
    tensors = ex4d_tensors(dit)
    for name in ("ex4d.ckpt", "ex4d.safetensors"):
        adapter = read_ex4d(saved(tmp_path, tensors, name), blocks=2)
        assert len(adapter.layers) == 20
        assert set(adapter.camera) == set(CAMERA_NAMES)
        change = adapter.layers["blocks.1.ffn.2"]
        assert torch.equal(change.down, tensors["blocks.1.ffn.2.lora_A.default.weight"])
        assert change.scale == 1.0
    assert len(read_adapter(saved(tmp_path, {"state_dict": tensors})).layers) == 20  # as some trainers save it


@pytest.mark.parametrize("prefix", ["", "pipe.dit.", "diffusion_model.", "base_model.model."])
@pytest.mark.parametrize(
    "halves", [("lora_A.default", "lora_B.default"), ("lora_A", "lora_B"), ("lora_down", "lora_up")]
)
def test_all_usual_ways_to_name_a_lora_are_the_same_lora(tmp_path, dit, prefix, halves):
    renamed = {
        prefix + name.replace("lora_A.default", halves[0]).replace("lora_B.default", halves[1]): tensor
        for name, tensor in random_lora(dit).items()
    }
    adapter = read_adapter(saved(tmp_path, renamed, "lora.safetensors"))
    assert set(adapter.layers) == {name.partition(".lora_")[0] for name in random_lora(dit)}
    assert torch.equal(adapter.layers[LAYER].up, random_lora(dit)[f"{LAYER}.lora_B.default.weight"])


def test_counts_and_names_are_said_when_something_is_missing_or_too_much(tmp_path, dit):
    tensors = ex4d_tensors(dit)
    for half in ("A", "B"):
        del tensors[f"blocks.1.ffn.0.lora_{half}.default.weight"]
        tensors[f"blocks.0.cross_attn.k_img.lora_{half}.default.weight"] = torch.zeros(4, 4)
    del tensors["latent_patch_embedding.bias"]
    with pytest.raises(InputError) as error:
        read_ex4d(saved(tmp_path, tensors), blocks=2)
    message = str(error.value)
    assert "40 LoRA + 8 camera tensors were expected, 40 + 7 tensors are there" in message
    assert "Missing: blocks.1.ffn.0, latent_patch_embedding.bias." in message
    assert "Not expected: blocks.0.cross_attn.k_img." in message
    assert "ex4d models verify ex4d" in message


def test_the_published_file_must_hold_800_and_8(tmp_path, dit):
    with pytest.raises(InputError, match=r"800 LoRA \+ 8 camera tensors were expected, 40 \+ 8 tensors are there"):
        read_ex4d(saved(tmp_path, ex4d_tensors(dit)))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"unet.down.weight": torch.zeros(2)}, r"1 of its 1 entries are unknown \(unet\.down\.weight\)"),
        (one_layer(lora_A__weight=torch.zeros(4, 24)), r"1 layers lack half of their LoRA \(blocks\.0"),
        (one_layer(alpha=torch.tensor(4.0)), "1 layers lack half"),
        (
            one_layer(lora_A__weight=torch.zeros(4, 24), lora_B__weight=torch.zeros(24, 8)),
            r"two halves are \[4, 24\] and \[24, 8\]",
        ),
    ],
)
def test_what_is_not_understood_is_an_error_never_skipped(tmp_path, tensors, message):
    with pytest.raises(InputError, match=message):
        read_adapter(saved(tmp_path, tensors, "lora.safetensors"))


def test_truncated_foreign_and_dangerous_files_are_said_in_a_sentence(tmp_path, dit):
    path = saved(tmp_path, ex4d_tensors(dit))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MachineError, match=r"does not open as weights, it may be truncated .*ex4d models verify ex4d"):
        read_ex4d(path)
    torch.save({"a": Path("/")}, path)  # anything but weights would have to be built by code
    with pytest.raises(MachineError, match="does not open as weights"):
        read_ex4d(path)
    torch.save({"step": 3, "a": torch.zeros(1)}, path)
    with pytest.raises(MachineError, match="1 entries that are no weights, for example step"):
        read_ex4d(path)
    with pytest.raises(MachineError, match=r"'.*gone\.ckpt' is missing"):
        read_ex4d(tmp_path / "gone.ckpt")


def test_a_lora_for_another_model_names_the_layer_and_both_shapes(tmp_path, dit):
    other = read_adapter(saved(tmp_path, random_lora(tiny_dit(Size(dim=36))), "other.safetensors"))
    with pytest.raises(
        InputError, match=r"other\.safetensors.*another model.*is \[24, 24\] here and \[36, 36\] in the"
    ):
        fuse(dit, [(other, 1.0)])
    deeper = read_adapter(saved(tmp_path, random_lora(tiny_dit(Size(layers=3))), "deep.safetensors"))
    with pytest.raises(InputError, match=r"no linear layer blocks\.2"):
        attach(dit, [(deeper, 1.0)])


# ------------------------------------------------------------------------------------------- fused, and hot


def velocity(dit) -> torch.Tensor:
    """The network's answer to a fixed question, in the release's arithmetic."""
    generator = torch.Generator().manual_seed(0)
    dtype = dit.patch_embedding.weight.dtype

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    conditions = Conditions(
        ray=noise(1, 24, 2, 2, 2).to(dtype),
        y=noise(1, 20, 2, 4, 4).to(dtype),
        clip=noise(1, 257, 1280).to(dtype),
        context={"positive": noise(1, 512, 16).to(dtype)},
    )
    with torch.no_grad():
        return ReferenceForward(dit, conditions)(noise(1, 16, 2, 4, 4), torch.tensor([500.0]), "positive")


def test_fused_equals_diffsynth_s_own_loader(tmp_path, dit):
    ours, theirs = dit, copy.deepcopy(dit)
    lora = random_lora(dit)
    fuse(ours, [(read_adapter(saved(tmp_path, lora)), 0.7)])
    pipeline = WanVideoPipeline(device="cpu", torch_dtype=torch.float32)
    pipeline.dit = theirs
    pipeline.load_lora(pipeline.dit, state_dict=lora, alpha=0.7)
    for (name, one), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert_close(one, other, rtol=1e-6, atol=1e-7, msg=name)


def test_hot_equals_peft_as_the_release_uses_it_bit_for_bit(tmp_path):
    ours = tiny_dit(dtype=torch.bfloat16)
    theirs = copy.deepcopy(ours)
    lora = random_lora(ours)
    attach(ours, [(read_adapter(saved(tmp_path, lora)), 1.0)])
    targets = ["q", "k", "v", "o", "ffn.0", "ffn.2"]  # generate.py; there of rank 16
    config = LoraConfig(r=4, lora_alpha=4.0, target_modules=targets)
    theirs = inject_adapter_in_model(config, theirs)
    missing = theirs.load_state_dict(lora, strict=False)
    assert not missing.unexpected_keys
    theirs = theirs.to(torch.bfloat16)  # what the release's wrappers make of its float32 LoRA
    assert torch.equal(velocity(ours), velocity(theirs))
    assert not torch.equal(velocity(ours), velocity(tiny_dit(dtype=torch.bfloat16)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_fused_equals_hot_within_rounding(tmp_path, dtype, tolerance):
    fused, hot, plain = (tiny_dit(dtype=dtype) for _ in range(3))
    stack = [(read_adapter(saved(tmp_path, random_lora(plain))), 1.0)]
    stack.append((read_adapter(saved(tmp_path, random_lora(plain, rank=8, seed=9), "other.safetensors")), -0.5))
    fuse(fused, stack)
    attach(hot, stack)
    reference = velocity(hot)
    assert (velocity(fused) - reference).norm() < tolerance * reference.norm()
    assert (velocity(plain) - reference).norm() > 0.1 * reference.norm()


def test_strengths_stack_and_are_rounded_once(tmp_path):
    dit = tiny_dit(dtype=torch.bfloat16)
    before = dit.get_submodule(LAYER).weight.float()
    first = read_adapter(saved(tmp_path, random_lora(dit)))
    second = read_adapter(saved(tmp_path, random_lora(dit, seed=9), "second.ckpt"))
    exact = before + sum(
        strength * adapter.layers[LAYER].up @ adapter.layers[LAYER].down
        for adapter, strength in ((first, 0.3), (second, 2))
    )
    fuse(dit, [(first, 0.3), (second, 2.0)])
    assert torch.equal(dit.get_submodule(LAYER).weight, exact.bfloat16())


def test_an_alpha_scales_by_alpha_over_rank(tmp_path, dit):
    down, up = torch.randn(4, 24), torch.randn(24, 4)
    path = saved(
        tmp_path, one_layer(lora_down__weight=down, lora_up__weight=up, alpha=torch.tensor(2.0)), "a.safetensors"
    )
    before = dit.get_submodule(LAYER).weight.clone()
    fuse(dit, [(read_adapter(path), 1.0)])
    assert_close(dit.get_submodule(LAYER).weight.data, before + 0.5 * up @ down)


@pytest.mark.parametrize("apply", [fuse, attach])
def test_step_distilled_loras_change_biases_norms_and_modulations_too(tmp_path, dit, apply):
    changes = {
        "blocks.0.self_attn.q.diff_b": torch.randn(24),
        "blocks.0.self_attn.norm_q.diff": torch.randn(24),
        "blocks.1.norm3.diff": torch.randn(24),
        "blocks.1.norm3.diff_b": torch.randn(24),
        "blocks.1.diff_m": torch.randn(1, 6, 24),
        "head.head.diff_b": torch.randn(64),
        "patch_embedding.diff": torch.randn(24, 36, 1, 2, 2),
    }
    halves = {"lora_down": torch.randn(4, 24), "lora_up": torch.randn(144, 4)}
    outside = {f"time_projection.1.{half}.weight": tensor for half, tensor in halves.items()}
    before = {name: value.clone() for name, value in dit.named_parameters()}
    tensors = {f"diffusion_model.{name}": value for name, value in {**changes, **outside, **random_lora(dit)}.items()}
    apply(dit, [(read_adapter(saved(tmp_path, tensors, "draft.safetensors")), 0.5)])
    after = dict(dit.named_parameters())
    for name, parameter in (
        ("blocks.0.self_attn.q.diff_b", "blocks.0.self_attn.q.bias"),
        ("blocks.0.self_attn.norm_q.diff", "blocks.0.self_attn.norm_q.weight"),
        ("blocks.1.norm3.diff", "blocks.1.norm3.weight"),
        ("blocks.1.norm3.diff_b", "blocks.1.norm3.bias"),
        ("blocks.1.diff_m", "blocks.1.modulation"),
        ("head.head.diff_b", "head.head.bias"),
        ("patch_embedding.diff", "patch_embedding.weight"),
    ):
        assert_close(after[parameter].data, before[parameter] + 0.5 * changes[name], msg=name)
    time = before["time_projection.1.weight"] + 0.5 * halves["lora_up"] @ halves["lora_down"]
    assert_close(after["time_projection.1.weight"].data, time)
    assert isinstance(dit.get_submodule(LAYER), LinearWithLoRA) == (apply is attach)


def test_halves_without_rank_are_refused(tmp_path):
    path = saved(
        tmp_path, one_layer(lora_down__weight=torch.zeros(0, 24), lora_up__weight=torch.zeros(24, 0)), "a.safetensors"
    )
    with pytest.raises(InputError, match=r"does not fit together at blocks\.0\.self_attn\.q"):
        read_adapter(path)


def test_differences_of_another_size_are_refused(tmp_path, dit):
    adapter = read_adapter(saved(tmp_path, one_layer(diff_b=torch.zeros(25)), "a.safetensors"))
    with pytest.raises(InputError, match=r"self_attn\.q\.bias is \[24\] here and \[25\] in the LoRA"):
        fuse(dit, [(adapter, 1.0)])
