# SPDX-License-Identifier: Apache-2.0
"""FID and FVD: how far a set of clips lies from a set of true ones, by networks of others, whose weights are given.

FID (Heusel et al. 2017) compares single frames, FVD (Unterthiner et al. 2018) whole clips: means and covariances of
what a network makes of them. Both need many; neither says anything about one take.
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ex4d.camera import Array
from ex4d.errors import InputError, MachineError
from ex4d.evaluation.perceptual import packages
from ex4d.progress import ProgressCallback, track
from ex4d.video import read_video

FRAMES_AT_ONCE = 16
FID_FEATURES, FVD_FEATURES = 2048, 400  # numbers per frame, per clip: with fewer of those, covariances have gaps
FEWEST_FRAMES_FVD = 9  # I3D halves the frames three times


def fid(
    ours: Sequence[Path], true: Sequence[Path], weights: Path, progress: ProgressCallback | None = None
) -> tuple[float, int]:
    """FID over all frames of the clips, by torchmetrics and torch-fidelity, resized as the first FID did.

    Args:
        ours, true: video files.
        weights: InceptionV3's as torch-fidelity publishes them.

    Returns:
        FID, and the number of frames in the smaller set.

    Raises:
        MachineError: a package is missing, or the weights are no such weights.
        InputError, VideoError: a set has too few frames, or a file cannot be read.
    """
    modules = ("torch", "torchmetrics.image.fid", "torch_fidelity", "safetensors")
    torch, fids, *_ = packages("FID", modules, "torchmetrics torch-fidelity safetensors")
    _only_weights(weights)
    try:
        judge = fids.FrechetInceptionDistance(feature_extractor_weights_path=str(weights), antialias=False)
    except RuntimeError as error:
        raise MachineError(f"'{weights}' does not hold torch-fidelity's InceptionV3: {error}") from error
    judge = judge.to("cuda" if torch.cuda.is_available() else "cpu")
    counts = []
    for files, real in ((ours, False), (true, True)):
        counts.append(0)
        for frames in track(list(files), "Reading clips for FID", progress):
            pictures = torch.from_numpy(read_video(frames).frames.copy()).permute(0, 3, 1, 2)
            for part in pictures.split(FRAMES_AT_ONCE):
                judge.update(part.to(judge.device), real=real)
            counts[-1] += len(pictures)
    if min(counts) < 2:
        raise InputError(f"FID needs at least 2 frames in each set, got {counts[0]} and {counts[1]}.")
    return float(judge.compute()), min(counts)


def fvd(
    ours: Sequence[Path], true: Sequence[Path], weights: Path, progress: ProgressCallback | None = None
) -> tuple[float, int]:
    """FVD over all clips, each whole, by cd-fvd.

    Args:
        ours, true: video files.
        weights: I3D's, trained on Kinetics-400, as cd-fvd takes them.

    Returns:
        FVD, and the number of clips in the smaller set.

    Raises:
        MachineError: a package is missing, or the weights are no such weights.
        InputError, VideoError: a set has too few clips, a clip too few frames, or a file cannot be read.
    """
    torch, fvds, _ = packages("FVD", ("torch", "cdfvd.fvd", "safetensors"), "cd-fvd safetensors")
    counts = len(ours), len(true)
    if min(counts) < 2:
        raise InputError(f"FVD needs at least 2 clips in each set, got {counts[0]} and {counts[1]}.")
    _only_weights(weights)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with contextlib.redirect_stdout(sys.stderr):  # it talks
        try:
            judge = fvds.cdfvd("i3d", n_fake="full", ckpt_path=str(weights), device=device)
        except RuntimeError as error:
            raise MachineError(f"'{weights}' does not hold cd-fvd's I3D: {error}") from error
        for files, add in ((ours, judge.add_fake_stats), (true, judge.add_real_stats)):
            for file in track(list(files), "Reading clips for FVD", progress):
                add(_long_enough(file, read_video(file).frames)[None])
        return float(judge.compute_fvd_from_stats()), min(counts)


def _long_enough(file: Path, frames: Array) -> Array:
    if len(frames) < FEWEST_FRAMES_FVD:
        raise InputError(f"'{file}' has {len(frames)} frames, FVD needs {FEWEST_FRAMES_FVD}. Leave it out.")
    return frames


def _only_weights(weights: Path) -> None:
    """Refuse a file that could run code when a package opens it, or MachineError."""
    from ex4d.generation.wan.tensors import read_tensors

    read_tensors(weights, "docs/evaluation.md says where these weights come from.")
