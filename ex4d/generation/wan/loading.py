# SPDX-License-Identifier: Apache-2.0
"""From the published files to networks: by path, checked name by name, one tensor at a time, never from a network.

The shapes of all networks are read from the files themselves. Weights stay on the disk (mapped into memory) until
they take their final dtype where they belong: the 66 GB of the DiT's float32 shards never lie in main memory.
"""

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Literal

import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.models.wan_video_image_encoder import WanImageEncoder, XLMRobertaCLIP
from diffsynth.models.wan_video_text_encoder import HuggingfaceTokenizer, WanTextEncoder
from diffsynth.models.wan_video_vae import VideoVAE_, WanVideoVAE
from diffsynth.utils.state_dict_converters.wan_video_dit import WanVideoDiTStateDictConverter
from diffsynth.utils.state_dict_converters.wan_video_image_encoder import WanImageEncoderStateDictConverter
from diffsynth.utils.state_dict_converters.wan_video_vae import WanVideoVAEStateDictConverter
from torch import Tensor, nn
from torchvision.transforms import Normalize
from transformers import PreTrainedTokenizerFast

from ex4d.errors import InputError, MachineError
from ex4d.generation.wan.camera_encoder import camera_encoder
from ex4d.generation.wan.checkpoint import Adapter, Stack, attach, check_fit, fused, read_adapter, read_ex4d
from ex4d.generation.wan.dit_shape import dit_shape
from ex4d.generation.wan.files import WanFiles, text_encoder_id
from ex4d.generation.wan.filling import REMEDY, assign, count_layers, shape_of
from ex4d.generation.wan.models import TextEncoder, WanModels
from ex4d.generation.wan.prompts import TOKENS
from ex4d.generation.wan.tensors import read_tensors
from ex4d.generation.wan.time_left import LOADING
from ex4d.progress import ProgressCallback, track

CLIP_HEADS = 16  # CLIP ViT-H/14: the file does not say them
UMT5_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # open_clip

EachBlock = Callable[[WanModel, int], None]
"""Called with the DiT and the number of each block as soon as its weights are there: to quantise it or send it on."""


def load_models(
    files: WanFiles,
    device: torch.device,
    dtype: torch.dtype,
    precision: Literal["reference", "fast"] = "fast",
    *,
    encoders_device: torch.device | None = None,
    each_block: EachBlock | None = None,
    progress: ProgressCallback | None = None,
) -> WanModels:
    """Load everything but the text encoder, which is loaded when a prompt asks for it.

    Args:
        files: see there.
        device: where the networks compute.
        dtype: of their weights.
        precision: reference keeps the LoRAs beside the weights, as the release; fast adds them to the weights.
        encoders_device: where VAE, image encoder and camera encoder lie; None for where they compute.
        each_block: see there.
        progress: told after every block of the DiT; it may cancel.

    Raises:
        MachineError: a file is missing, truncated or holds another network.
        InputError: a LoRA is for another model.
    """
    home = device if encoders_device is None else encoders_device
    stack_for = _ex4d_stack(files)  # the quick questions first
    vae, image_encoder = load_vae(files, home, dtype), load_image_encoder(files, home, dtype)
    dit, stack = _load_dit(files, device, dtype, stack_for, precision == "fast", each_block, progress)
    if precision == "reference":
        attach(dit, stack)
    return WanModels(
        dit=dit,
        vae=vae,
        image_encoder=image_encoder,
        camera_encoder=load_camera_encoder(stack[0][0], dit.dim, home, dtype),
        load_text_encoder=lambda: load_text_encoder(files, dtype),
        text_encoder_id=text_encoder_id(files),
        device=device,
        dtype=dtype,
    )


def load_dit(
    files: WanFiles,
    device: torch.device,
    dtype: torch.dtype,
    stack: Stack = (),
    progress: ProgressCallback | None = None,
) -> WanModel:
    """The DiT, with adapters added to its weights: in float32, before they are rounded.

    Raises:
        MachineError: a file is missing, truncated or holds another network.
        InputError: an adapter is for another model.
    """
    return _load_dit(files, device, dtype, lambda _: stack, True, None, progress)[0]


def load_ex4d_dit(
    files: WanFiles, device: torch.device, dtype: torch.dtype, each_block: EachBlock | None = None
) -> WanModel:
    """The DiT as `load_models` has it for precision fast, and nothing beside it: for another GPU's process.

    Raises:
        MachineError: a file is missing, truncated or holds another network.
        InputError: a LoRA is for another model.
    """
    return _load_dit(files, device, dtype, _ex4d_stack(files), True, each_block, None)[0]


def _ex4d_stack(files: WanFiles) -> Callable[[WanModel], Stack]:
    """EX-4D's LoRA and the artist's on top, read at once but for EX-4D's, which depends on the network."""
    adapters = [(read_adapter(path), strength) for path, strength in files.loras]
    for adapter, _ in adapters:
        if adapter.camera:
            raise InputError(f"'{adapter.source}' is an adapter of EX-4D's kind, which is loaded anyway. Leave it out.")
    return lambda dit: [(read_ex4d(files.adapter, blocks=len(dit.blocks)), 1.0), *adapters]


def _load_dit(
    files: WanFiles,
    device: torch.device,
    dtype: torch.dtype,
    stack_for: Callable[[WanModel], Stack],
    fuse: bool,
    each_block: EachBlock | None,
    progress: ProgressCallback | None,
) -> tuple[WanModel, Stack]:
    tensors: dict[str, Tensor] = {}
    for shard in files.dit:
        tensors |= read_tensors(shard, REMEDY)
    tensors = WanVideoDiTStateDictConverter(tensors)
    with skip_model_initialization():
        dit = WanModel(**dit_shape(tensors, files))
    assign(dit, tensors, "the DiT of Wan2.1-I2V-14B", files.dit[0])
    del tensors
    stack = stack_for(dit)
    for adapter, _ in stack:
        check_fit(dit, adapter)
    changes = stack if fuse else ()

    def settle(prefix: str, parameters: Mapping[str, nn.Parameter]) -> None:
        for name, parameter in parameters.items():
            parameter.data = _settled(f"{prefix}{name}", parameter.data, changes, device, dtype)

    outside = {name: value for name, value in dit.named_parameters() if not name.startswith("blocks.")}
    settle("", outside)
    for number, block in enumerate(track(dit.blocks, LOADING, progress)):
        settle(f"blocks.{number}.", dict(block.named_parameters()))
        if each_block is not None:
            each_block(dit, number)
    return dit.eval(), stack


def _settled(name: str, weight: Tensor, stack: Stack, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A weight off the disk: changed, in its dtype, where it belongs."""
    layer, _, _ = name.rpartition(".")
    if any(layer in adapter.layers or name in adapter.added for adapter, _ in stack):
        weight = fused(name, weight.to(device), stack, dtype)
    return weight.to(device, dtype)


def load_vae(files: WanFiles, device: torch.device, dtype: torch.dtype) -> WanVideoVAE:
    """The VAE.

    Raises:
        MachineError: the file is missing, truncated or holds another network.
    """
    tensors = WanVideoVAEStateDictConverter(read_tensors(files.vae, REMEDY))
    what = "the VAE of Wan2.1"
    width = shape_of(tensors, "model.encoder.conv1.weight", 5, what, files.vae)[0]
    latent = shape_of(tensors, "model.conv2.weight", 5, what, files.vae)[0]
    with skip_model_initialization():
        vae = WanVideoVAE()
        vae.model = VideoVAE_(dim=width, z_dim=latent)
    assign(vae, tensors, what, files.vae)
    return vae.to(device, dtype).eval()


def load_image_encoder(files: WanFiles, device: torch.device, dtype: torch.dtype) -> WanImageEncoder:
    """The half of CLIP that looks at pictures.

    Raises:
        MachineError: the file is missing, truncated or holds another network.
    """
    tensors = WanImageEncoderStateDictConverter(read_tensors(files.image_encoder, REMEDY))
    what = "the image encoder of Wan2.1"
    patches = shape_of(tensors, "model.visual.patch_embedding.weight", 4, what, files.image_encoder)
    positions = shape_of(tensors, "model.visual.pos_embedding", 3, what, files.image_encoder)
    hidden = shape_of(tensors, "model.visual.transformer.0.mlp.0.weight", 2, what, files.image_encoder)
    out = shape_of(tensors, "model.visual.head", 2, what, files.image_encoder)
    encoder = WanImageEncoder.__new__(WanImageEncoder)  # its own constructor knows one size only
    nn.Module.__init__(encoder)
    with skip_model_initialization():
        encoder.model = XLMRobertaCLIP(
            embed_dim=out[1],
            image_size=math.isqrt(positions[1] - 1) * patches[2],
            patch_size=patches[2],
            vision_dim=patches[0],
            vision_mlp_ratio=(hidden[0] + 0.5) / patches[0],  # the network truncates ratio * width
            vision_heads=CLIP_HEADS,
            vision_layers=count_layers(tensors, r"model\.visual\.transformer\.(\d+)\."),
        )
    encoder.transforms = SimpleNamespace(transforms=[Normalize(CLIP_MEAN, CLIP_DEVIATION)])
    assign(encoder, tensors, what, files.image_encoder)
    return encoder.to(device, dtype).eval()


def load_text_encoder(files: WanFiles, dtype: torch.dtype) -> TextEncoder:
    """UMT5-XXL in main memory, mapped from the disk where it has that dtype already, and its tokenizer.

    Raises:
        MachineError: a file is missing, truncated or holds another network.
    """
    tensors = read_tensors(files.text_encoder, REMEDY)
    what = "the text encoder of Wan2.1"
    vocabulary, width = shape_of(tensors, "token_embedding.weight", 2, what, files.text_encoder)
    buckets, heads = shape_of(tensors, "blocks.0.pos_embedding.embedding.weight", 2, what, files.text_encoder)
    with skip_model_initialization():
        network = WanTextEncoder(
            vocab=vocabulary,
            dim=width,
            dim_attn=shape_of(tensors, "blocks.0.attn.q.weight", 2, what, files.text_encoder)[0],
            dim_ffn=shape_of(tensors, "blocks.0.ffn.fc1.weight", 2, what, files.text_encoder)[0],
            num_heads=heads,
            num_layers=count_layers(tensors, r"blocks\.(\d+)\."),
            num_buckets=buckets,
            shared_pos=False,
        )
    assign(network, tensors, what, files.text_encoder)
    return TextEncoder(network.to(dtype=dtype).eval(), load_tokenizer(files))


def load_tokenizer(files: WanFiles) -> HuggingfaceTokenizer:
    """UMT5's tokenizer, exactly as `tokenizer.json` describes it.

    transformers 5 would build a T5 tokenizer of its own from the vocabulary alone; the release's version 4 did not.

    Raises:
        MachineError: the file is missing or damaged.
    """
    path = files.tokenizer / "tokenizer.json"
    tokenizer = HuggingfaceTokenizer.__new__(HuggingfaceTokenizer)
    tokenizer.name, tokenizer.seq_len, tokenizer.clean = str(files.tokenizer), TOKENS, "whitespace"
    try:
        tokenizer.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path), **UMT5_TOKENS)
    except Exception as error:  # tokenizers raises no narrower type
        detail = " ".join(str(error).split())[:160]
        raise MachineError(f"'{path}' does not open as a tokenizer ({detail}). {REMEDY}") from error
    tokenizer.vocab_size = tokenizer.tokenizer.vocab_size
    return tokenizer


def load_camera_encoder(adapter: Adapter, tokens: int, device: torch.device, dtype: torch.dtype) -> nn.ModuleDict:
    """EX-4D's camera encoder.

    Args:
        adapter: of `read_ex4d`.
        tokens: channels of the DiT's tokens.
        device: where it goes.
        dtype: of its weights.

    Raises:
        InputError: it is for another network.
    """
    found = {name: list(tensor.shape) for name, tensor in adapter.camera.items()}
    with skip_model_initialization():
        encoder = camera_encoder(hidden=len(adapter.camera["latent_encoder.0.weight"]), tokens=tokens)
    for name, value in encoder.state_dict().items():
        if found[name] != list(value.shape):
            raise InputError(
                f"'{adapter.source}' is not EX-4D's adapter: {name} should be {list(value.shape)} and is {found[name]}."
            )
    encoder.load_state_dict(dict(adapter.camera), strict=True, assign=True)
    return encoder.to(device, dtype).eval().requires_grad_(False)
