# SPDX-License-Identifier: Apache-2.0
"""The transformers source on tiny random models: batches, kinds of answers, licences, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    GLPNConfig,
    GLPNForDepthEstimation,
)

from ex4d.depth import DepthClip, DisparityClip, SourceOptions, depth_source
from ex4d.errors import Cancelled, DepthError

PROCESSOR = {
    "image_processor_type": "DPTImageProcessor",
    "do_resize": True,
    "size": {"height": 28, "width": 28},
    "keep_aspect_ratio": True,
    "ensure_multiple_of": 14,
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def save_depth_anything(folder, kind="relative"):
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8,
        head_in_index=-1,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else 1,
    )
    model = DepthAnythingForDepthEstimation(config)
    model.head.conv3.bias.data += 0.5  # fresh weights would mostly answer 0
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR), encoding="utf-8")
    return folder


def source(folder, **values):
    options = {"weights": str(folder), "device": "cpu", **values}
    return depth_source("transformers", SourceOptions(values=options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_depth_anything(tmp_path_factory.mktemp("relative"))


def test_a_relative_model_gives_disparity_at_the_plate_size(folder, coloured_frames, clip_of):
    found = source(folder).estimate(clip_of(coloured_frames[:3, :40, :60]))
    assert isinstance(found, DisparityClip)
    assert found.disparity.shape == (3, 40, 60)
    assert found.disparity.dtype == np.float32
    assert np.ptp(found.disparity) > 0


def test_a_metric_model_gives_metres(tmp_path, coloured_frames, clip_of):
    found = source(save_depth_anything(tmp_path, "metric")).estimate(clip_of(coloured_frames[:3]))
    assert isinstance(found, DepthClip)
    assert found.kind == "metric"
    assert 0 < found.depth.min() <= found.depth.max() <= 20


def test_batches_do_not_change_the_answers(folder, coloured_frames, clip_of):
    clip = clip_of(coloured_frames[:5])
    one, three = (source(folder, raw="yes", batch=batch).estimate(clip) for batch in ("1", "3"))
    np.testing.assert_allclose(one.disparity, three.disparity, atol=1e-5)


def test_frames_are_steadied_unless_raw(folder, coloured_frames, clip_of):
    clip = clip_of(coloured_frames[:4])
    raw, steady = (source(folder, raw=raw).estimate(clip).disparity for raw in ("yes", "no"))
    assert not np.array_equal(raw, steady)


def test_the_licence_is_the_model_s_and_an_unknown_one_is_said(folder, coloured_frames, clip_of):
    small = depth_source("transformers")
    assert (small.licence, small.commercial_use) == ("Apache-2.0", True)
    large = SourceOptions(values={"model": "depth-anything/Depth-Anything-V2-Large-hf"})
    assert depth_source("transformers", large).commercial_use is False
    found = source(folder, model="somebody/depth-model").estimate(clip_of(coloured_frames[:1]))
    assert found.commercial_use is None
    assert any("look at the model's page" in notice for notice in found.notices)


def test_cancelling_stops_after_the_frame(folder, coloured_frames, clip_of):
    def cancel(report):
        if report.i == 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        source(folder).estimate(clip_of(coloured_frames[:5]), cancel)


def test_other_kinds_of_models_and_damaged_ones_are_refused(tmp_path, coloured_frames, clip_of):
    damaged = save_depth_anything(tmp_path / "damaged")
    (damaged / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DepthError, match="no model that transformers can read"):
        source(damaged).estimate(clip_of(coloured_frames[:1]))
    other = save_depth_anything(tmp_path / "other")
    (other / "config.json").write_text(json.dumps({"model_type": "chmv2"}), encoding="utf-8")
    with pytest.raises(DepthError, match="Supported: depth_anything"):
        source(other).estimate(clip_of(coloured_frames[:1]))


def test_answers_in_metres_that_are_no_distance_are_refused(tmp_path, coloured_frames, clip_of):
    torch.manual_seed(0)
    config = GLPNConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 8],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=8,
        max_depth=0,
    )
    GLPNForDepthEstimation(config).save_pretrained(tmp_path)
    processor = {"image_processor_type": "GLPNImageProcessor", "do_resize": True, "size_divisor": 32}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    with pytest.raises(DepthError, match="at or behind the camera"):
        source(tmp_path).estimate(clip_of(coloured_frames[:1]))
