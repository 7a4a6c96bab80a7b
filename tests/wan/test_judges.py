# SPDX-License-Identifier: Apache-2.0
"""LPIPS, FID and FVD by the real packages with random weights: no figure means anything, but order and zero do."""

import json
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch

from ex4d.cli import main
from ex4d.errors import InputError, MachineError
from ex4d.evaluation import frechet
from ex4d.evaluation.frechet import fid, fvd
from ex4d.evaluation.perceptual import ALEXNET, lpips_distances
from ex4d.video import write_video

RNG = np.random.default_rng(0)


def clip(path, pictures):
    write_video(path, pictures, Fraction(24), "ffv1")
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two clips, each with a nearer and a farther likeness."""
    folder = tmp_path_factory.mktemp("clips")
    made = {"true": [], "near": [], "far": []}
    for number in range(2):
        true = RNG.integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)
        noise = RNG.integers(0, 256, true.shape, dtype=np.uint8)
        for name, share in (("true", 0.0), ("near", 0.1), ("far", 0.9)):
            mixed = ((1 - share) * true + share * noise * 0.4).astype(np.uint8)
            made[name].append(clip(folder / f"{name}{number}.mkv", mixed))
    return made


@pytest.fixture
def alexnet(tmp_path, monkeypatch):
    """Where torchvision looks for weights: a folder with a random AlexNet."""
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    torchvision = pytest.importorskip("torchvision")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    torch.manual_seed(0)
    (tmp_path / "checkpoints").mkdir()
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), tmp_path / "checkpoints" / ALEXNET)
    return tmp_path / "checkpoints" / ALEXNET


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """A file of random weights of InceptionV3."""
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is missing")
    with pytest.MonkeyPatch.context() as patch:  # it cannot be made without weights
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def i3d(tmp_path_factory):
    """A file of random weights of I3D."""
    module = pytest.importorskip("cdfvd.third_party.i3d.pytorch_i3d", reason="cd-fvd is not installed")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("i3d") / "i3d.pt"
    torch.save(module.InceptionI3d(400, in_channels=3).state_dict(), path)
    return path


def test_lpips_is_zero_for_the_same_and_grows_with_the_difference(alexnet):
    true = RNG.integers(0, 256, (2, 64, 80, 3), dtype=np.uint8)
    near = (true * 0.95).astype(np.uint8)
    far = RNG.integers(0, 256, true.shape, dtype=np.uint8)
    assert lpips_distances(true, true) == [0, 0]
    for nearer, farther in zip(lpips_distances(near, true), lpips_distances(far, true), strict=True):
        assert 0 < nearer < farther
    alexnet.unlink()
    with pytest.raises(MachineError, match=ALEXNET):
        lpips_distances(true, true)


@pytest.fixture
def fewer_features(monkeypatch):
    """FID over 64 features: 2048 take a quarter of a minute."""
    module = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics is not installed")
    whole = module.FrechetInceptionDistance
    monkeypatch.setattr(module, "FrechetInceptionDistance", lambda **given: whole(feature=64, **given))


def test_fid_is_zero_for_the_same_set_and_grows_with_the_difference(inception, fewer_features, clips):
    same, count = fid(clips["true"], clips["true"], inception)
    assert same == pytest.approx(0, abs=1e-4)
    assert count == 18
    near, far = (fid(clips[name], clips["true"], inception)[0] for name in ("near", "far"))
    assert 10 * abs(same) < near < far


@pytest.mark.filterwarnings("ignore")  # of scipy: two clips make a singular covariance
def test_fvd_is_zero_for_the_same_set_and_grows_with_the_difference(i3d, clips):
    same, count = fvd(clips["true"], clips["true"], i3d)
    near, far = (fvd(clips[name], clips["true"], i3d)[0] for name in ("near", "far"))
    assert count == 2
    assert abs(same) < 0.01 * near
    assert near < far


def test_the_command_writes_the_sets_figures(inception, fewer_features, clips, tmp_path, capsys):
    given = ["sets", *map(str, clips["near"]), "--against", *map(str, clips["true"])]
    out = tmp_path / "sets.json"
    assert main(["evaluate", *given, "--inception", str(inception), "--out", str(out), "--json"]) == 0
    told, written = json.loads(capsys.readouterr().out), json.loads(out.read_text(encoding="utf-8"))
    assert told["fid"] == written["fid"] > 0
    assert written["fid_frames"] == 18
    assert "fvd" not in written
    assert "needs 2048 and more" in told["notices"][0]
    assert main(["evaluate", *given]) == InputError.exit_code
    assert "a judge's weights" in capsys.readouterr().err
    assert main(["evaluate", "sets", "none.mkv", "--against", *given[4:], "--i3d", "x"]) == InputError.exit_code
    assert "'none.mkv' is not there" in capsys.readouterr().err


def test_what_cannot_be_measured_is_said(tmp_path, clips, monkeypatch):
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is missing")
    with pytest.raises(MachineError, match=r"missing.*evaluation\.md"):
        fid(clips["near"], clips["true"], tmp_path / "none.pth")
    other = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(2)}, other)
    with pytest.raises(MachineError, match="does not hold torch-fidelity's InceptionV3"):
        fid(clips["near"], clips["true"], other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(print, other)  # a function: what could run is not loaded
    with pytest.raises(MachineError, match="does not open as weights"):
        fid(clips["near"], clips["true"], other)
    monkeypatch.setattr(frechet, "FEWEST_FRAMES_FVD", 10)
    with pytest.raises(InputError, match="has 9 frames, FVD needs 10"):
        frechet._long_enough(clips["near"][0], np.zeros((9, 4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("judge", "missing", "name"), [(fid, "torchmetrics", "torchmetrics"), (fvd, "cdfvd", "cd-fvd")]
)
def test_a_missing_package_is_named(clips, tmp_path, monkeypatch, judge, missing, name):
    monkeypatch.setitem(sys.modules, missing, None)
    for module in [module for module in sys.modules if module.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MachineError, match=f"pip install .*{name}"):
        judge(clips["near"], clips["true"], tmp_path / "none.pth")
