# SPDX-License-Identifier: Apache-2.0
"""The smallest networks of DepthCrafter's kind, with weights that are the same on every machine."""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

SCHEDULER = {"sigma_max": 700.0, "sigma_min": 0.002, "use_karras_sigmas": True, "prediction_type": "v_prediction"}


def networks():
    """UNet, VAE and image encoder, stock classes, for inference."""
    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=4,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 64), down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4
    )
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            projection_dim=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=224,
            intermediate_size=32,
            patch_size=56,
        )
    )
    return [_with_known_weights(part).eval() for part in (unet, vae, encoder)]


def save(folder: Path) -> tuple[Path, Path]:
    """Save them as the real ones are published. Returns the folders of DepthCrafter and of Stable Video Diffusion."""
    unet, vae, encoder = networks()
    unet.save_pretrained(folder / "unet")
    config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    config["_class_name"] = "DiffusersUNetSpatioTemporalConditionModelDepthCrafter"
    (folder / "unet" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    svd = folder / "svd"
    vae.save_pretrained(svd / "vae", variant="fp16")
    encoder.save_pretrained(svd / "image_encoder", variant="fp16")
    (svd / "scheduler").mkdir()
    (svd / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER), encoding="utf-8")
    return folder / "unet", svd


def _with_known_weights(network: torch.nn.Module) -> torch.nn.Module:
    """Weights of numpy's generator, scaled as fresh ones are, mixing factors and biases included."""
    random = np.random.default_rng(7)
    for parameter in network.parameters():
        fan_in = max(1, parameter[0].numel() if parameter.dim() > 1 else 1)
        centre = 1.0 if parameter.dim() == 1 and float(parameter.detach().mean()) == 1 else 0.0
        values = random.standard_normal(parameter.shape) * (0.1 if parameter.dim() == 1 else fan_in**-0.5)
        parameter.data = torch.from_numpy((centre + values).astype(np.float32))
    return network
