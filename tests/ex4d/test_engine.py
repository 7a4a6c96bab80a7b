# SPDX-License-Identifier: Apache-2.0
"""The Wan2.1 engine around a simple painter: sizes, lengths, lead-in, windows, previews, and what take.json keeps."""

import contextlib
import dataclasses
import json
import sys
import warnings
from fractions import Fraction
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ex4d.camera import CameraPath, pinhole_intrinsics
from ex4d.conditioning import Conditioning, render_conditioning
from ex4d.errors import Cancelled, InputError, MachineError, ShapeError
from ex4d.generation import ENGINES, GenerateOptions, engine
from ex4d.generation.options import Lora, lora
from ex4d.generation.wan import availability
from ex4d.generation.wan import engine as engine_module
from ex4d.generation.wan.availability import can_paint, need_wan
from ex4d.generation.wan.engine import EROSION_PX, Loaded, WanEngine, paint_settings
from ex4d.generation.wan.follower import Follower
from ex4d.generation.wan.framing import framing
from ex4d.generation.wan.latent_preview import latent_picture
from ex4d.generation.wan.modes import MODES
from ex4d.generation.wan.preparation import Limits, Work
from ex4d.generation.wan.settings import NEGATIVE_PROMPT, PROMPT
from ex4d.generation.wan.time_left import TimeLeft
from ex4d.generation.wan.windows import spans
from ex4d.models import model_folder
from ex4d.progress import Progress, track
from ex4d.shot import DepthInfo, PlateInfo, Shot, write_shot
from ex4d.take import generate_take, render_take
from ex4d.takes import read_take

WIDTH, HEIGHT, COUNT = 64, 48, 6
LENS = pinhole_intrinsics(60.0, WIDTH, HEIGHT)
LIMITS = Limits(pixels=48 * 32, release_size=(32, 32), shortest=5, longest=13, overlap=3)
HOLE = 200  # what the simple painter paints


class Latents(np.ndarray):
    """As much of a tensor as a preview needs."""

    def float(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return np.asarray(self)


class SimplePainter:
    """Keeps what it is told and paints all else in one grey."""

    def __init__(self, steps=3):
        self.jobs, self.steps = [], steps

    def paint(self, color, mask, settings, progress=None, on_preview=None):
        assert color.shape == (*mask.shape, 3)
        assert color.dtype == np.uint8
        assert mask.dtype == np.bool_
        self.jobs.append((color, mask, settings))
        frames, height, width = mask.shape
        for step in track(range(self.steps), "Painting", progress):
            if on_preview is not None:
                on_preview(
                    step, np.zeros((1, 16, (frames + 3) // 4, height // 8, width // 8), np.float32).view(Latents)
                )
        return np.where(mask[..., None], color, np.uint8(HOLE))


class Lender:
    """Lends one painter and knows whether it was given back."""

    def __init__(self, painter=None):
        self.painter, self.windows, self.lent, self.show = painter or SimplePainter(), [], 0, None

    @contextlib.contextmanager
    def __call__(self, settings, window, options, progress, expect):
        self.windows.append(window)
        self.lent += 1
        try:
            yield Loaded(self.painter, ("Lent.",), {"gpu": "none"}, self.show)
        finally:
            self.lent -= 1


def wan(lender, limits=LIMITS):
    return WanEngine(lender, lambda mode, loras: None, limits)


def shot_of(count=COUNT):
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(20, 120, (1, HEIGHT, WIDTH, 3), dtype=np.uint8), count, axis=0)
    depth = np.full((count, HEIGHT, WIDTH), 8.0, np.float32)
    for n in range(count):
        column = 10 + (6 * n) % 30
        frames[n, 15:35, column : column + 16] = (250, 200, 40)
        depth[n, 15:35, column : column + 16] = 4.0
    info = DepthInfo("truth", "CC0", True, "metric", None, {})
    return Shot(frames, Fraction(24), depth, LENS, "exact", PlateInfo("plate", "0" * 64, 0, None), info)


def sideways(start, stop, count=COUNT, width=WIDTH, height=HEIGHT):
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = -np.linspace(start, stop, count)
    lenses = np.tile(pinhole_intrinsics(60.0 * width / WIDTH, width, height), (count, 1, 1))
    return CameraPath(poses, lenses, width, height, np.arange(count))


def drawn(shot, cameras):
    return render_conditioning(shot.frames, shot.depth, shot.intrinsics, shot.convention, cameras, "cpu")


def painted(shot, cameras, conditioning=None, options=None, lender=None, progress=None):
    lender = lender or Lender()
    conditioning = conditioning or drawn(shot, cameras)
    result = wan(lender).generate(shot, cameras, conditioning, options or GenerateOptions(), progress)
    assert lender.lent == 0
    return result, lender


def test_a_take_that_fits_is_painted_in_one_window_pixel_for_pixel():
    shot, cameras = shot_of(), sideways(0, 1, width=48, height=32)
    conditioning = drawn(shot, cameras)
    conditioning.color[0], conditioning.mask[0] = 7, True  # as if it started at the source view
    result, lender = painted(shot, cameras, conditioning)
    expected = np.where(conditioning.mask[..., None], conditioning.color, HOLE)
    np.testing.assert_array_equal(result.frames, expected)
    assert [(window.frames, window.width, window.height) for window in lender.windows] == [(9, 48, 32)]
    color, mask, _ = lender.painter.jobs[0]
    assert (color[COUNT:] == color[COUNT - 1]).all(), "padding holds the last frame"
    assert (mask[COUNT:] == mask[COUNT - 1]).all()
    assert result.notices == ("Lent.",)
    assert result.settings["windows"] == [[0, 9]]


def test_another_size_is_said_and_comes_back_at_the_takes():
    shot, cameras = shot_of(), sideways(0, 1)
    result, lender = painted(shot, cameras)
    assert result.frames.shape == (COUNT, HEIGHT, WIDTH, 3)
    size = f"{lender.windows[0].width} x {lender.windows[0].height}"
    assert result.notices[0] == f"The model painted {size} pixels; the result was scaled to 64 x 48."
    assert np.abs(result.frames[0].astype(int) - shot.frames[0]).mean() < 20


def test_a_take_that_starts_elsewhere_is_led_in_and_the_lead_in_is_cut_off():
    shot, cameras = shot_of(), sideways(1, 1.4)
    conditioning = drawn(shot, cameras)
    assert not conditioning.mask[0].all()
    result, lender = painted(shot, cameras, conditioning)
    lead = result.settings["lead_in"]
    assert lead == 8
    mask = lender.painter.jobs[0][1]
    assert mask[0].all(), "the model starts from the whole plate"
    assert not mask[lead].all()
    assert result.frames.shape == (COUNT, HEIGHT, WIDTH, 3)
    assert any(f"{lead} frames lead in" in notice for notice in result.notices)
    alone, _ = painted(shot, cameras, dataclasses.replace(conditioning, mask=np.ones_like(conditioning.mask)))
    shown = conditioning.mask.all(axis=0)
    assert np.abs(result.frames.astype(int) - alone.frames)[:, shown].mean() < 3, "frames are off by some"


def test_a_hole_that_an_artist_made_in_the_plates_own_view_is_filled_first():
    shot, cameras = shot_of(), sideways(0, 1)
    conditioning = drawn(shot, cameras)
    conditioning.mask[:, 10:30, 20:40] = False
    conditioning.color[~conditioning.mask] = 0
    result, lender = painted(shot, cameras, conditioning)
    color, mask, _ = lender.painter.jobs[0]
    assert mask[0].all()
    assert color[0].min() > 0
    assert not mask[1].all()
    assert result.settings["lead_in"] == 0
    assert any("filled before the model" in notice for notice in result.notices)


def test_a_long_take_is_painted_in_windows_that_go_on_from_each_other():
    count = 30
    shot, cameras = shot_of(count), sideways(0, 1, count)
    reports = []
    result, lender = painted(shot, cameras, options=GenerateOptions(seed=40), progress=reports.append)
    jobs = lender.painter.jobs
    assert len(jobs) == 3
    assert [told.seed for _, _, told in jobs] == [40, 41, 42]
    assert len(result.frames) == count
    stages = [report.stage for report in reports if report.stage.startswith("Painting")]
    assert list(dict.fromkeys(stages)) == ["Painting 1/3", "Painting 2/3", "Painting 3/3"]
    counted = [(report.i, report.n) for report in reports if report.stage.startswith("Painting")]
    assert counted == [(i, 9) for i in (0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9)], "the bar goes on from window to window"
    etas = [report.eta_s for report in reports if report.eta_s is not None]
    assert etas == sorted(etas, reverse=True)
    assert len(etas) > 8
    assert jobs[1][1][:3].all(), "the overlap is known"
    assert any("30 frames were painted in 3 windows of 13" in notice for notice in result.notices)


def test_previews_come_with_the_reports(monkeypatch):
    monkeypatch.setattr(engine_module, "PREVIEW_INTERVAL_S", 0.0)
    shot, cameras = shot_of(), sideways(0, 1)
    reports = []
    painted(shot, cameras, lender=Lender(SimplePainter(steps=4)), progress=reports.append)
    pictures = [report.preview for report in reports if report.preview is not None]
    assert len(pictures) == 4
    assert pictures[0].dtype == np.uint8
    assert pictures[0].shape[2] == 3
    assert all(report.stage == "Painting" for report in reports if report.preview is not None)


def test_what_can_show_the_latents_better_does_while_it_can(monkeypatch):
    monkeypatch.setattr(engine_module, "PREVIEW_INTERVAL_S", 0.0)
    pictures = [np.full((2, 2, 3), 7, np.uint8), None]
    lender = Lender(SimplePainter(steps=2))
    lender.show = lambda latents, frame: pictures.pop(0)
    reports = []
    painted(shot_of(), sideways(0, 1), lender=lender, progress=reports.append)
    shown = [report.preview for report in reports if report.preview is not None]
    assert shown[0].tolist() == np.full((2, 2, 3), 7).tolist()
    assert len(shown) == 2
    assert shown[1].shape != (2, 2, 3), "the latents themselves"


def test_previews_show_the_take_and_neither_its_lead_in_nor_its_padding():
    whole = np.zeros((14, 32, 48, 3), np.uint8)  # 8 frames lead in to 6
    work = Work(whole, whole[..., 0] > 0, 8, framing(48, 32, 48 * 32), spans(14, 5, 81), ())
    assert work.parts[0].count == 17
    latents = np.zeros((1, 16, 5, 4, 6), np.float32)
    latents[0, :] = np.arange(5)[:, None, None]
    pictures = [latent_picture(latents[0, :, frame]).tolist() for frame in range(5)]
    shown = []
    follow = Follower(
        work,
        6,
        lambda report: shown.append(pictures.index(report.preview.tolist())),
        interval_s=0,
        left=TimeLeft(MODES["lossless"], 5, 1),
    )
    for step in range(5):
        follow.on_latents(step, latents.view(Latents))
        follow.window(0)(Progress("Painting", step + 1, 5))
    assert shown == [2, 3, 4, 3, 2]  # frame t of the take lies in latent frame ceil((8 + t) / 4)


def test_previews_come_at_most_once_a_second():
    reports = []
    lender, options = Lender(SimplePainter(steps=50)), GenerateOptions(steps=50)
    painted(shot_of(), sideways(0, 1), options=options, lender=lender, progress=reports.append)
    assert sum(report.preview is not None for report in reports) == 1


def test_the_reference_quality_does_as_the_release():
    shot, cameras = shot_of(), sideways(1, 1.4)
    result, lender = painted(shot, cameras, options=GenerateOptions(quality="reference"))
    assert (lender.windows[0].width, lender.windows[0].height) == (32, 32)
    _, mask, told = lender.painter.jobs[0]
    assert not mask[0].all()
    assert told.erosion_px is None
    assert result.settings["lead_in"] == 0
    assert any("as the release does" in notice for notice in result.notices)
    assert any("49 frames" in notice for notice in result.notices)


def test_what_was_not_chosen_is_the_releases_or_the_modes_own():
    default = paint_settings(GenerateOptions(quality="draft"))
    assert (default.prompt, default.negative_prompt) == (PROMPT, NEGATIVE_PROMPT)
    assert default.steps == MODES["draft"].steps
    assert default.erosion_px == EROSION_PX
    chosen = paint_settings(GenerateOptions(prompt="", negative_prompt="rain", steps=7, erosion_px=0))
    assert (chosen.prompt, chosen.negative_prompt, chosen.steps, chosen.erosion_px) == ("", "rain", 7, 0)


def test_loras_are_named_with_their_strength():
    assert lora("film look.v2") == Lora("film look.v2", 1.0)
    assert lora("film:-0.5") == Lora("film", -0.5)
    result, _ = painted(shot_of(), sideways(0, 1), options=GenerateOptions(loras=("film:0.5",)))
    assert any("film:0.5: look up their licence" in notice for notice in result.notices)
    assert result.commercial_use is None


def test_a_camera_that_never_sees_the_plate_is_refused_before_anything_is_loaded():
    shot, cameras = shot_of(), sideways(0, 1)
    lender, seen = Lender(), drawn(shot, cameras)
    nothing = Conditioning(np.zeros_like(seen.color), np.zeros_like(seen.mask), np.full_like(seen.depth, np.inf))
    with pytest.raises(InputError, match="never sees the plate"):
        wan(lender).generate(shot, cameras, nothing, GenerateOptions())
    with pytest.raises(ShapeError, match="Render the take again"):
        wan(lender).generate(shot, sideways(0, 1, COUNT - 1), seen, GenerateOptions())
    shorter = dataclasses.replace(seen, mask=seen.mask[1:])
    for name in ("wan", "preview"):
        painter = wan(lender) if name == "wan" else engine(name)
        with pytest.raises(
            ShapeError, match=rf"colour is \[{COUNT}, .* mask \[{COUNT - 1}, .*without changing their length"
        ):
            painter.generate(shot, cameras, shorter, GenerateOptions())
    assert lender.windows == []


def test_a_cancelled_take_gives_its_painter_back():
    lender = Lender()

    def cancel(report: Progress) -> None:
        if report.stage == "Painting" and report.i == 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        wan(lender).generate(shot_of(), sideways(0, 1), drawn(shot_of(), sideways(0, 1)), GenerateOptions(), cancel)
    assert lender.lent == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(24, 90), st.integers(24, 90), st.sampled_from([0.0, 0.3, 1.5]))
def test_a_faithful_painter_gives_back_any_take(count, width, height, start):
    """Of any length, size and start: nothing is shifted in time or space, whatever the model paints at once."""
    x, y, t = np.meshgrid(np.arange(WIDTH) / WIDTH, np.arange(HEIGHT) / HEIGHT, np.arange(count), indexing="xy")
    frames = np.stack([200 * x, 200 * y, 10 * t + 20], axis=-1).transpose(2, 0, 1, 3).astype(np.uint8)
    info = DepthInfo("truth", "CC0", True, "metric", None, {})
    depth = np.full((count, HEIGHT, WIDTH), 8.0, np.float32)
    shot = Shot(frames, Fraction(24), depth, LENS, "exact", PlateInfo("plate", "0" * 64, 0, None), info)
    cameras = sideways(start, start + 0.2, count, width, height)
    conditioning = drawn(shot, cameras)
    result, _ = painted(shot, cameras, conditioning)
    assert result.frames.shape == conditioning.color.shape
    inner = np.stack([cv2.erode(mask.astype(np.uint8), np.ones((17, 17)), borderValue=0) for mask in conditioning.mask])
    error = np.abs(result.frames.astype(int) - conditioning.color)[inner > 0]
    assert error.size == 0 or error.max() < 10  # a frame of shift is 10 levels


def test_take_json_keeps_what_painting_it_again_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "wan", lambda: wan(Lender()))
    shot, cameras = shot_of(), sideways(0.5, 1)
    write_shot(tmp_path, shot)
    take, conditioning = render_take(tmp_path, shot, "side", cameras)
    options = GenerateOptions("wan", seed=5, quality="fp8", prompt="a wall", loras=("film",))
    finished = generate_take(tmp_path, shot, take, cameras, conditioning, options)
    assert read_take(tmp_path, "side") == finished
    record = json.loads((tmp_path / "takes/side/take.json").read_text(encoding="utf-8"))
    assert (record["engine"], record["seed"], record["schema"]) == ("wan", 5, 1)
    kept = record["settings"]
    assert (kept["quality"], kept["prompt"], kept["loras"]) == ("fp8", "a wall", ["film"])
    assert kept["gpu"] == "none"
    assert {"shot.json", "color.mkv", "mask.mkv"} <= set(record["hashes"])
    assert record["commercial_use"] is None
    plain = generate_take(tmp_path, shot, finished, cameras, conditioning, GenerateOptions("wan"))
    assert plain.commercial_use is True
    again = GenerateOptions(
        record["engine"],
        record["seed"],
        kept["quality"],
        kept["steps"],
        kept["prompt"],
        kept["negative_prompt"],
        kept["erosion_px"],
        tuple(kept["loras"]),
    )
    assert paint_settings(again) == paint_settings(options)


def test_a_machine_without_the_packages_is_told_how_to_get_them(monkeypatch):
    monkeypatch.setattr(availability, "PACKAGES", ("numpy", "no_such_package"))
    with pytest.raises(MachineError, match=r"no_such_package.*pip install 'ex4d\[wan\]'"):
        need_wan(MODES["lossless"])
    assert not can_paint(MODES["lossless"])
    assert engine("auto").name == "preview"


def test_a_machine_without_the_weights_is_told_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setattr(availability, "PACKAGES", ())
    monkeypatch.setenv("EX4D_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert not model_folder("Wan-AI").exists()
    with pytest.raises(MachineError, match="ex4d models download wan"):
        need_wan(MODES["lossless"])


class Cuda:
    """torch as a machine with some driver, build and GPU sees it."""

    __version__ = "2.13.0"

    def __init__(self, built: str | None, capability: tuple[int, int] | None, warning: str = "") -> None:
        self.version, self.cuda = SimpleNamespace(cuda=built), self
        self._capability, self._warning = capability, warning

    def is_available(self) -> bool:
        if self._warning:
            warnings.warn(self._warning, stacklevel=1)
        return self._capability is not None

    def get_device_capability(self) -> tuple[int, int]:
        assert self._capability is not None
        return self._capability

    def get_device_name(self) -> str:
        return "NVIDIA GeForce RTX 2080 Ti"


@pytest.mark.parametrize(
    ("torch", "words"),
    [
        (Cuda(None, None), "was built without CUDA.*pytorch.org"),
        (Cuda(None, (9, 4)), "was built without CUDA"),  # another maker's GPU
        (Cuda("13.0", None), r"finds none that it can use\. If there is one, update its driver for CUDA 13\.0"),
        (
            Cuda(
                "13.0", None, "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)."
            ),
            r"It says: .*too old \(found version 11040\)\..*update its driver for CUDA 13\.0",
        ),
        (Cuda("13.0", (7, 5)), r"compute capability 8\.0 or newer.*RTX 2080 Ti has 7\.5\. Use another GPU"),
        (Cuda("13.0", (8, 6)), None),
    ],
    ids=["no CUDA", "other maker", "no GPU", "old driver", "old GPU", "fine"],
)
def test_a_machine_without_a_fitting_gpu_is_told_why_and_what_to_do(monkeypatch, torch, words):
    monkeypatch.setattr(availability, "PACKAGES", ())
    monkeypatch.setattr(availability, "find_wan_files", lambda mode, loras: None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert can_paint(MODES["lossless"]) == (words is None)
    if words is not None:
        with pytest.raises(MachineError, match=words):
            need_wan(MODES["lossless"])


def test_the_highest_seed_goes_round():
    count = 30
    _, lender = painted(shot_of(count), sideways(0, 1, count), options=GenerateOptions(seed=2**63 - 1))
    assert [told.seed for _, _, told in lender.painter.jobs] == [2**63 - 1, 0, 1]
