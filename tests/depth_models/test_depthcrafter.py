# SPDX-License-Identifier: Apache-2.0
"""The DepthCrafter sampler on tiny networks: golden values, windows, memory modes and cancelling."""

import copy
import itertools

import numpy as np
import pytest
import torch
from tiny_networks import SCHEDULER, networks, save

from ex4d.depth import SourceOptions, depth_source, video_layers
from ex4d.depth.depthcrafter_memory import plan_memory
from ex4d.depth.depthcrafter_sampler import (
    Parts,
    SamplerOptions,
    assembled,
    computing,
    denoise,
    draw_disparity,
    karras_sigmas,
    per_frame_context,
)
from ex4d.depth.video_layers import use_fast_layers
from ex4d.errors import Cancelled, MachineError

CPU = torch.device("cpu")
# Of networks() on coloured_frames, from a run that equals the original implementation within 2e-6 (T = 12, and
# T = 30 and 23 in windows of 12 overlapping by 4; same weights, noise and steps).
GOLDEN = {
    12: [0.509669, 0.49609, 0.498603, 0.520812, 0.508643, 0.601631, 0.401235, 0.571, 0.507664,
         0.491496, 0.490916, 0.51003, 0.514776, 0.493471, 0.336117, 0.533151, 0.354142, 0.436876],
    23: [0.501705, 0.524468, 0.533282, 0.462861, 0.594873, 0.571274, 0.45962, 0.518755, 0.401034,
         0.484035, 0.521767, 0.522587, 0.546341, 0.363404, 0.520644, 0.512415, 0.586311, 0.269092],
}  # fmt: skip


@pytest.fixture(scope="module")
def parts() -> Parts:
    return assembled(*networks(), SCHEDULER, CPU)


@pytest.mark.parametrize(("count", "options"), [(12, SamplerOptions()), (23, SamplerOptions(window=12, overlap=4))])
def test_drawn_disparity_equals_what_the_original_draws(parts, coloured_frames, count, options):
    drawn = draw_disparity(parts, coloured_frames[:count], options)
    assert drawn.shape == (count, 64, 64)
    np.testing.assert_allclose(drawn[:: count - 1, ::24, ::24].ravel(), GOLDEN[count], atol=2e-5)


@pytest.mark.parametrize("parts", ["whole", "frame by frame"])
def test_fast_layers_compute_what_the_stock_layers_compute(parts, monkeypatch):
    if parts == "frame by frame":
        monkeypatch.setattr(video_layers, "FRAME_NUMBERS", 1)
        monkeypatch.setattr(video_layers, "FEED_FORWARD_NUMBERS", 1)
    stock_unet, stock_vae, _ = networks()
    unet, vae, _ = networks()
    for network in (unet, vae):
        use_fast_layers(network, channels_last=True)
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn((1, 5, 8, 12, 8), generator=generator)
    context = torch.randn((5, 32), generator=generator)
    inputs = {
        "timestep": torch.tensor(0.5),
        "encoder_hidden_states": context[None, :1],
        "added_time_ids": torch.tensor([[7.0, 127.0, 0.02]]),
        "return_dict": False,
    }
    with torch.inference_mode():
        outputs = []
        for network in (stock_unet, unet):
            with per_frame_context(network, context):
                outputs.append(network(sample, **inputs)[0])
        torch.testing.assert_close(outputs[1], outputs[0], atol=2e-5, rtol=1e-5)
        latents = torch.randn((5, 4, 8, 6), generator=generator)
        decoded = [network.decode(latents, num_frames=5).sample for network in (stock_vae, vae)]
        torch.testing.assert_close(decoded[1], decoded[0], atol=2e-5, rtol=1e-5)
        encoded = [network.encode(decoded[0]).latent_dist.mode() for network in (stock_vae, vae)]
        torch.testing.assert_close(encoded[1], encoded[0], atol=2e-5, rtol=1e-5)


def test_each_frame_sees_its_own_embedding(parts):
    sample = torch.randn((1, 3, 8, 8, 8), generator=torch.Generator().manual_seed(1))
    context = torch.zeros((3, 32))
    changed = context.clone()
    changed[2] = 1
    drawn = []
    with torch.inference_mode():
        for embeddings in (context, changed):
            with per_frame_context(parts.unet, embeddings):
                drawn.append(
                    parts.unet(
                        sample,
                        torch.tensor(0.5),
                        encoder_hidden_states=embeddings[None, :1],
                        added_time_ids=torch.zeros((1, 3)),
                        return_dict=False,
                    )[0][0]
                )
    difference = (drawn[1] - drawn[0]).abs().amax(dim=(1, 2, 3))
    assert difference[2] > 2 * difference[:2].max()


def test_noise_levels_are_those_of_the_release():
    sigmas = karras_sigmas(5, 700.0, 0.002)
    np.testing.assert_allclose(sigmas, [700, 134.9, 15.6, 0.678, 0.002, 0], rtol=2e-3)
    assert all(a > b for a, b in itertools.pairwise(sigmas))


def test_a_clip_as_long_as_one_window_needs_no_windowing(parts, coloured_frames):
    frames = coloured_frames[:6]
    one = draw_disparity(parts, frames, SamplerOptions(steps=2, window=6, overlap=2))
    np.testing.assert_array_equal(one, draw_disparity(parts, frames, SamplerOptions(steps=2)))


@pytest.mark.parametrize("count", [7, 10, 11, 14])
def test_windows_cover_every_frame_once(parts, count):
    random = torch.Generator().manual_seed(3)
    latents = torch.randn((count, 4, 8, 8), generator=random)
    context = torch.randn((count, 32), generator=random)
    options = SamplerOptions(steps=2, window=6, overlap=2)
    with torch.inference_mode():
        drawn = denoise(parts, latents, context, options, torch.Generator().manual_seed(0))
        first = denoise(parts, latents[:6], context[:6], options, torch.Generator().manual_seed(0))
    assert drawn.shape == latents.shape
    assert torch.isfinite(drawn).all()
    torch.testing.assert_close(drawn[:4], first[:4])  # frames that only the first window drew
    torch.testing.assert_close(drawn[4], first[4])  # the cross-fade starts with all of the first window


def test_weights_that_wait_elsewhere_draw_the_same_and_go_back(coloured_frames):
    unet, vae, encoder = networks()
    kept = copy.deepcopy(unet.state_dict())
    parts = assembled(unet, vae, encoder, SCHEDULER, CPU)
    with computing(parts.unet, CPU, torch.float64):
        assert {weight.dtype for weight in parts.unet.parameters()} == {torch.float64}
    for name, weight in parts.unet.state_dict().items():
        torch.testing.assert_close(weight, kept[name], rtol=0, atol=0)
    options = SamplerOptions(steps=1)
    first = draw_disparity(parts, coloured_frames[:3], options)
    np.testing.assert_array_equal(first, draw_disparity(parts, coloured_frames[:3], options))


@pytest.mark.parametrize(
    ("free", "wish", "resident"), [(24, "auto", True), (9, "auto", False), (24, "low", False), (11, "low", False)]
)
def test_networks_take_turns_where_they_do_not_fit_together(monkeypatch, free, wish, resident):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * 2**30, 80 * 2**30))
    plan = plan_memory(torch.device("cuda"), 49, 576, 1024, wish)
    assert plan.resident is resident
    assert bool(plan.notices) == (wish == "auto" and not resident)


@pytest.mark.parametrize(("free", "wish"), [(9, "fast"), (4, "auto")])
def test_a_clip_that_does_not_fit_is_refused_before_anything_is_loaded(monkeypatch, free, wish):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * 2**30, 80 * 2**30))
    with pytest.raises(MachineError, match=f"{free}.0 GiB are free.*memory=low"):
        plan_memory(torch.device("cuda"), 49, 576, 1024, wish)


def test_cancelling_stops_at_the_next_step_and_leaves_the_networks_usable(parts, coloured_frames):
    seen = []

    def cancel(report):
        seen.append((report.stage, report.i))
        if report.stage == "Drawing the depth" and report.i == 1:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        draw_disparity(parts, coloured_frames[:3], SamplerOptions(steps=3), cancel)
    assert seen[-1] == ("Drawing the depth", 1)
    assert not parts.unet.down_blocks[0]._forward_pre_hooks
    assert draw_disparity(parts, coloured_frames[:3], SamplerOptions(steps=1)).shape == (3, 64, 64)


def test_the_source_draws_from_folders_and_says_what_it_did(tmp_path, coloured_frames, clip_of):
    unet, svd = save(tmp_path)
    frames = np.repeat(coloured_frames[:3], 2, axis=2)[:, :50, :100]  # 100 x 50: not a size that the networks take
    values = {"weights": str(unet), "svd": str(svd), "steps": "1", "device": "cpu"}
    source = depth_source("depthcrafter", SourceOptions(values=values))
    stages = []
    found = source.estimate(clip_of(frames), lambda report: stages.append(report.stage))
    assert found.disparity.shape == (3, 50, 100)
    assert found.disparity.dtype == np.float32
    assert found.commercial_use is False
    assert found.parameters["size"] == [128, 64]
    assert any("128 x 64" in notice for notice in found.notices)
    assert list(dict.fromkeys(stages)) == [
        "Looking at the frames",
        "Encoding the frames",
        "Drawing the depth",
        "Decoding the depth",
    ]
