# SPDX-License-Identifier: Apache-2.0
"""A whole take with Wan2.1's real classes, tiny: from the shot folder to result.mp4, and what stays loaded after it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from published import publish
from safetensors.torch import save_file
from tiny_wan import WIDE, Size, tiny_models

from ex4d.camera import CameraPath, pinhole_intrinsics
from ex4d.errors import Cancelled, InputError, MachineError
from ex4d.generation import ENGINES, GenerateOptions
from ex4d.generation.room import make_room
from ex4d.generation.wan import networks, resident
from ex4d.generation.wan.engine import Loaded, WanEngine, paint_settings
from ex4d.generation.wan.machine import GIB, Machine
from ex4d.generation.wan.memory_plan import Window
from ex4d.generation.wan.pipeline import WanPipeline
from ex4d.generation.wan.preparation import Limits
from ex4d.generation.wan.time_left import LOADING
from ex4d.generation.wan.tiny_decoder import shapes
from ex4d.models import MODELS
from ex4d.models.registry import TINY_DECODER
from ex4d.shot import DepthInfo, PlateInfo, Shot, read_shot, write_shot
from ex4d.take import generate_take, read_rendered_take, render_take
from ex4d.takes import read_take
from ex4d.video import read_video

WIDTH, HEIGHT, COUNT = 48, 32, 12
LIMITS = Limits(pixels=48 * 32, release_size=(32, 32), shortest=5, longest=13, overlap=3)
CPU = torch.device("cpu")
# On a machine with a GPU the networks are loaded, streamed and set aside there, with heads as wide as the real ones.
ON_GPU = torch.cuda.is_available()
DEVICE, DTYPE = (resident.GPU, torch.bfloat16) if ON_GPU else (CPU, torch.float32)
SIZE = replace(WIDE, layers=3) if ON_GPU else Size(layers=3)
WINDOW = Window(48, 32, 5)
BIG = Machine("NVIDIA H200", 141 * GIB, 140 * GIB, 300 * GIB, fp8=True)
SMALL = Machine("NVIDIA GeForce RTX 4080", 16 * GIB, 15 * GIB, 60 * GIB, fp8=True)


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("EX4D_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shot(tmp_path):
    """A block before a wall, and a camera that starts beside the plate's."""
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(20, 120, (1, HEIGHT, WIDTH, 3), dtype=np.uint8), COUNT, axis=0)
    depth = np.full((COUNT, HEIGHT, WIDTH), 8.0, np.float32)
    for n in range(COUNT):
        frames[n, 8:24, 6 + n : 18 + n], depth[n, 8:24, 6 + n : 18 + n] = (250, 200, 40), 4.0
    info = DepthInfo("truth", "CC0", True, "metric", None, {})
    lens = pinhole_intrinsics(45.0, WIDTH, HEIGHT)
    shot = Shot(frames, Fraction(24), depth, lens, "exact", PlateInfo("plate", "0" * 64, 0, None), info)
    write_shot(tmp_path / "shot", shot)
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    poses[:, 0, 3] = -np.linspace(0.4, 1, COUNT)
    cameras = CameraPath(poses, np.tile(lens, (COUNT, 1, 1)), WIDTH, HEIGHT, np.arange(COUNT))
    render_take(tmp_path / "shot", shot, "side", cameras, "cpu")
    return tmp_path / "shot"


@pytest.fixture
def tiny_engine(monkeypatch):
    """The engine around the real pipeline."""
    pipeline = WanPipeline(tiny_models())

    @contextlib.contextmanager
    def lend(settings, window, options, progress, expect):
        yield Loaded(pipeline)

    monkeypatch.setitem(ENGINES, "wan", lambda: WanEngine(lend, lambda mode, loras: None, LIMITS))


def paint(folder, progress=None, **options):
    shot = read_shot(folder)
    asked = GenerateOptions("wan", steps=2, **options)
    return generate_take(folder, shot, *read_rendered_take(folder, shot, "side"), asked, progress)


def test_a_take_is_painted_by_the_real_pipeline(shot, tiny_engine):
    reports = []
    take = paint(shot, reports.append, seed=3)
    assert read_take(shot, "side") == take
    assert take.settings["lead_in"] == 8
    assert take.settings["windows"] == [[0, 13], [7, 13]]
    first = read_video(shot / "takes/side/result.mkv").frames
    assert first.shape == (COUNT, HEIGHT, WIDTH, 3)
    assert read_video(shot / "takes/side/result.mp4").frames.shape == first.shape
    stages = dict.fromkeys(report.stage for report in reports)
    assert {"Painting 1/2", "Painting 2/2"} <= set(stages)
    previews = [report.preview for report in reports if report.preview is not None]
    assert previews[0].shape == (HEIGHT // 8, WIDTH // 8, 3)
    paint(shot, seed=3)
    np.testing.assert_array_equal(read_video(shot / "takes/side/result.mkv").frames, first)
    paint(shot, seed=4)
    assert (read_video(shot / "takes/side/result.mkv").frames != first).any()


def test_what_takes_seconds_to_import_is_named_as_loading(shot, monkeypatch):
    pipeline = WanPipeline(tiny_models())
    monkeypatch.setattr(resident, "lent_painter", lambda *loan: contextlib.nullcontext(Loaded(pipeline)))
    monkeypatch.setitem(ENGINES, "wan", lambda: WanEngine(need=lambda mode, loras: None, limits=LIMITS))
    stages = []
    paint(shot, lambda report: stages.append(report.stage))
    assert LOADING not in stages
    monkeypatch.delitem(sys.modules, "diffsynth")
    paint(shot, lambda report: stages.append(report.stage))
    assert LOADING in stages


def test_the_reference_quality_runs_too(shot, tiny_engine):
    take = paint(shot, quality="reference")
    assert take.settings["working_size"] == [32, 32]
    assert take.settings["erosion_px"] is None
    assert read_video(shot / "takes/side/result.mkv").frames.shape == (COUNT, HEIGHT, WIDTH, 3)


def test_a_cancel_stops_within_a_step_and_leaves_the_take_as_it_was(shot, tiny_engine):
    seen = []

    def cancel(report):
        if report.stage.startswith("Painting"):
            seen.append(report.i)
            if report.i == 1:
                raise Cancelled("stopped")

    before = (shot / "takes/side/take.json").read_bytes()
    with pytest.raises(Cancelled):
        paint(shot, cancel)
    assert seen == [0, 1]
    assert (shot / "takes/side/take.json").read_bytes() == before
    assert not (shot / "takes/side/result.mkv").exists()
    paint(shot)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Wan2.1 and EX-4D as published, tiny, where models are looked for."""
    monkeypatch.setenv("EX4D_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    publish(tmp_path / "models", SIZE)
    yield tmp_path / "models"
    resident.release()


def lent(quality="lossless", machine=BIG, prompt="a flower", loras=(), others=()):
    options = GenerateOptions(quality=quality, steps=1, prompt=prompt, negative_prompt="turns", loras=loras)
    return resident.lent_painter(
        paint_settings(options),
        WINDOW,
        options,
        device=DEVICE,
        dtype=DTYPE,
        read=lambda: machine,
        find_others=lambda plan, mode, machine: list(others),
    )


def painted(loaded, quality="lossless", prompt="a flower", progress=None):
    options = GenerateOptions(quality=quality, steps=1, prompt=prompt, negative_prompt="turns")
    color = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
    return loaded.painter.paint(color, np.ones((5, 32, 48), bool), paint_settings(options), progress)


def test_networks_stay_for_the_next_take_that_needs_the_same(weights):
    with lent() as loaded:
        first = painted(loaded)
        kept = resident._held.networks
    assert json.loads(json.dumps(loaded.settings))["gpu"] == "NVIDIA H200"
    with lent(prompt="a flower turns") as loaded:
        assert resident._held.networks is kept
        assert (painted(loaded, prompt="a flower turns") != first).any()
    with lent("reference") as loaded:
        assert resident._held.networks is not kept
        painted(loaded, "reference")
    resident.release()
    assert resident._held is None


@pytest.mark.parametrize("quality", ["lossless", "fp8"])
def test_a_small_gpu_streams_and_paints_the_same(weights, quality):
    with lent(quality) as loaded:
        expected = painted(loaded, quality)
    resident.release()
    with lent(quality, SMALL) as loaded:
        assert resident._held.networks._blocks is not None
        np.testing.assert_array_equal(painted(loaded, quality), expected)
        assert resident._held.plan.text_encoder == "unused"
    with lent(quality, SMALL, prompt="turns a flower") as loaded:
        assert resident._held.plan.text_encoder == "alone"
        assert (painted(loaded, quality, "turns a flower") != expected).any()


@pytest.mark.skipif(ON_GPU, reason="the other GPUs' own test is benchmarks/generation_multi_gpu.py")
def test_two_devices_paint_the_same_together(weights, monkeypatch):
    monkeypatch.setattr(networks, "SHARED_NETWORK", "shared_for_tests:network")
    with lent() as loaded:
        expected = painted(loaded).astype(int)
    resident.release()
    with lent(others=[CPU]) as loaded:
        together = resident._held.networks
        assert np.abs(painted(loaded) - expected).max() <= 1
    with lent(others=[CPU]):
        assert resident._held.networks is together
        [helper] = together._team._helpers

        def kill(report):
            if report.stage == "Developing the frames" and together._team.alive:
                os.kill(helper.pid, signal.SIGKILL)
                while together._team.alive:
                    time.sleep(0.01)

        finished = painted(loaded, progress=kill)
        assert np.abs(finished - expected).max() <= 1, "the decoder needs nobody"
        with pytest.raises(MachineError, match="The process of cpu ended unexpectedly"):
            painted(loaded)
    with lent() as loaded:
        assert resident._held.networks is not together, "a team that has ended is replaced"
        assert np.abs(painted(loaded) - expected).max() <= 1


def test_where_main_memory_is_short_other_gpus_load_in_turn_and_it_is_said(weights, monkeypatch):
    loads = []

    class Alone(networks.Networks):
        """All that two other GPUs would add, but for their processes."""

        def __init__(self, *arguments):
            *own, others, at_once = arguments
            loads.append((len(others), at_once))
            super().__init__(*own)

    monkeypatch.setattr(resident, "Networks", Alone)
    roomy, short = BIG, replace(BIG, ram_free=8 * GIB)
    for machine, at_once, said in ((roomy, 50, False), (short, 1, True)):
        with lent(machine=machine, others=[CPU, CPU]) as loaded:
            assert any("one after the other: 8 GB" in notice for notice in loaded.notices) == said
        assert loads[-1][0] == 2
        assert loads[-1][1] == pytest.approx(at_once, abs=25)
        with lent(machine=machine, others=[CPU, CPU]) as loaded:
            assert not loaded.notices, "they are loaded"
        resident.release()
    assert len(loads) == 2


def test_previews_are_sharper_where_the_tiny_decoder_is(weights):
    folder = weights / MODELS["previews"].repository
    folder.mkdir(parents=True)
    latents = torch.randn(1, 16, 2, 4, 6, device=DEVICE)
    with lent() as loaded:
        assert loaded.show is None
    resident.release()
    decoder = {f"decoder.{name}": torch.zeros(shape) for name, shape in shapes().items()}
    save_file(decoder | {"decoder.22.bias": torch.tensor([1.0, 0.5, 0.0])}, folder / TINY_DECODER)
    with lent() as loaded:
        picture = loaded.show(latents, 1)
        assert (picture.shape, picture[0, 0].tolist()) == ((16, 24, 3), [255, 128, 0])
        assert loaded.notices == ()
    resident.release()
    save_file({"decoder.other": torch.zeros(1)}, folder / TINY_DECODER)
    with lent() as loaded:
        assert loaded.show is None
        assert any("Previews are coarse: 'taew2_1.safetensors' does not hold" in notice for notice in loaded.notices)


def test_what_goes_wrong_leaves_nothing_half_done(weights):
    with pytest.raises(Cancelled), lent():
        raise Cancelled("stopped")
    assert resident._held is not None, "a cancelled take keeps the networks"
    with pytest.raises(MachineError, match=r"ran out of memory while painting 5 frames of 48 x 32\..*'fp8'"), lent():
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert resident._held is None
    with pytest.raises(MachineError, match=r"This machine ran out of main memory while painting .*"), lent():
        torch.empty(2**50, dtype=torch.uint8)
    with pytest.raises(ZeroDivisionError), lent():
        raise ZeroDivisionError
    assert resident._held is None
    with lent() as loaded:
        painted(loaded)


def test_networks_make_room_for_what_needs_it(weights, monkeypatch):
    with lent():
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(resident, "read_machine", lambda: SMALL)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    make_room(8 * GIB)
    assert resident._held is not None
    make_room(16 * GIB)
    assert resident._held is None


def test_what_is_not_there_is_said_before_anything_is_loaded(weights):
    with pytest.raises(MachineError, match="no LoRA 'film'"), lent(loras=("film",)):
        pass
    with pytest.raises(MachineError, match="draft"), lent("draft"):
        pass
    with pytest.raises(MachineError, match="of GPU memory"), lent(machine=Machine("old", 4 * GIB, 4 * GIB, 8 * GIB)):
        pass
    (weights / "loras").mkdir()
    (weights / "loras" / "film.safetensors").write_bytes(b"no weights")
    with pytest.raises((InputError, MachineError), match="film"), lent(loras=("film",)):
        pass
    assert resident._held is None


def test_choosing_an_engine_imports_no_torch():
    code = "import sys; from ex4d.generation import engine; engine(); engine('wan'); print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"
