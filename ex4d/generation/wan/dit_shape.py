# SPDX-License-Identifier: Apache-2.0
"""How large the DiT is that some files hold."""

import json
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ex4d.errors import MachineError
from ex4d.generation.wan.files import WanFiles
from ex4d.generation.wan.filling import REMEDY, count_layers, shape_of
from ex4d.models import MODELS

INPUT_CHANNELS = 36  # of the image-to-video DiT: 16 of noise, 4 of mask, 16 of the first picture
HEAD_CHANNELS = 128  # Wan2.1-I2V-14B, where no configuration says it


def dit_shape(tensors: Mapping[str, Tensor], files: WanFiles) -> dict[str, Any]:
    """What the DiT's constructor takes, from the weights; what they do not say, from the configuration beside them.

    Raises:
        MachineError: the configuration is damaged, or they are those of another network.
    """
    what, path = "the DiT of Wan2.1-I2V-14B", files.dit[0]
    try:
        config = json.loads(files.config.read_text(encoding="utf-8"))
        heads, eps = int(config.get("num_heads", 0)), float(config.get("eps", 1e-6))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise MachineError(f"'{files.config}' does not open as the DiT's configuration ({error}). {REMEDY}") from error
    width, channels, *patch = shape_of(tensors, "patch_embedding.weight", 5, what, path)
    if channels != INPUT_CHANNELS:
        raise MachineError(
            f"'{path.name}' and those beside it hold a DiT with {channels} input channels; image to video has "
            f"{INPUT_CHANNELS}. Put Wan2.1-I2V-14B-480P there: {MODELS['wan'].command}"
        )
    heads = heads or width // HEAD_CHANNELS
    if heads < 1 or width % heads:
        raise MachineError(f"'{files.config}' says that {width} channels are those of {heads} heads. {REMEDY}")
    return {
        "dim": width,
        "in_dim": channels,
        "ffn_dim": shape_of(tensors, "blocks.0.ffn.0.weight", 2, what, path)[0],
        "out_dim": shape_of(tensors, "head.head.weight", 2, what, path)[0] // math.prod(patch),
        "text_dim": shape_of(tensors, "text_embedding.0.weight", 2, what, path)[1],
        "freq_dim": shape_of(tensors, "time_embedding.0.weight", 2, what, path)[1],
        "eps": eps,
        "patch_size": tuple(patch),
        "num_heads": heads,
        "num_layers": count_layers(tensors, r"blocks\.(\d+)\."),
        "has_image_input": True,
    }
