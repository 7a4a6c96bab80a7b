# SPDX-License-Identifier: Apache-2.0
"""From videos to a dataset: the same every time, however many processes work and however often it is stopped."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from fractions import Fraction

import cv2
import numpy as np
import pytest

from ex4d.cli import main
from ex4d.errors import Cancelled, InputError, LicenceError
from ex4d.generation.wan.settings import PROMPT
from ex4d.training.cuts import cut_after
from ex4d.training.dataset import Dataset, read_index
from ex4d.training.making import PARTS, SHEETS
from ex4d.training.options import PrepareOptions
from ex4d.training.prepare import prepare
from ex4d.training.records import DatasetError
from ex4d.training.shards import read_record
from ex4d.video import read_video, write_video

OPTIONS = PrepareOptions(frame_count=5, size=(64, 48))
SHARES = {kind: {kind: 1.0} for kind in ("rendering", "tracking", "both")}


def footage(path, count, seed, size=(64, 48)):
    """A noise picture that drifts, with a bright disc that moves before it."""
    ground = cv2.GaussianBlur(
        np.random.default_rng(seed).integers(0, 255, (size[1], size[0] + count, 3), dtype=np.uint8), (0, 0), 2
    )
    frames = np.stack([ground[:, n : n + size[0]].copy() for n in range(count)])
    for n, frame in enumerate(frames):
        cv2.circle(frame, (15 + 2 * n, 24), 9, (240, 220, 60), -1)
    write_video(path, frames, Fraction(24), "ffv1")
    return frames


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footage")
    footage(folder / "a.mkv", 12, 1)
    footage(folder / "b.mkv", 5, 2)
    (folder / "b.txt").write_text("a disc\n before noise\n")
    return folder


def fingerprint(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory):
    """Made in one go by this process."""
    folder = tmp_path_factory.mktemp("whole") / "dataset"
    return folder, prepare([videos], folder, OPTIONS, shard_samples=2)


def test_videos_are_cut_into_samples_whose_target_is_the_source(whole, videos):
    folder, done = whole
    data = Dataset(folder)
    data.check()
    places = [(record.source, record.first_frame) for record in data.index.records]
    assert places == [("a.mkv", 0), ("a.mkv", 5), ("b.mkv", 0)]
    assert [len(shard.keys) for shard in data.index.shards] == [2, 1]
    assert done.new_samples == 3
    source = read_video(videos / "a.mkv").frames
    for sample in data:
        assert sample.mask[0].all(), "the first frame is the source's own"
        assert not sample.mask.all()
        assert sample.record.mask["seen_mean"] == pytest.approx(sample.mask.mean(), abs=1e-4)
        assert sample.record.fps == "24"
    assert np.array_equal(data[1].target, source[5:10])
    assert [record.caption for record in data.index.records] == [PROMPT, PROMPT, "a disc before noise"]
    assert any("last 2 of 12 frames" in notice for notice in done.notices)
    assert not (folder / PARTS).exists()


def test_every_sample_has_a_picture_to_judge_it_by(whole):
    folder, done = whole
    assert {path.stem for path in (folder / SHEETS).iterdir()} == {record.key for record in done.index.records}
    page = cv2.imread(str(next((folder / SHEETS).iterdir())))
    assert page.std() > 20


def test_several_processes_make_the_same_bytes(whole, videos, tmp_path):
    prepare([videos], tmp_path / "dataset", OPTIONS, workers=2, shard_samples=2)
    assert fingerprint(tmp_path / "dataset") == fingerprint(whole[0])


def test_another_seed_makes_other_masks_of_the_same_frames(whole, videos, tmp_path):
    prepare([videos], tmp_path / "dataset", PrepareOptions(frame_count=5, size=(64, 48), seed=1))
    one, other = Dataset(whole[0]), Dataset(tmp_path / "dataset")
    assert [r.key for r in one.index.records] == [r.key for r in other.index.records]
    assert np.array_equal(one[0].target, other[0].target)
    assert not np.array_equal(one[0].mask, other[0].mask)


def test_a_run_that_was_stopped_goes_on_where_it_was(whole, videos, tmp_path):
    folder = tmp_path / "dataset"

    def stop_in_the_third(report):
        if report.stage == "Preparing samples" and report.i == 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        prepare([videos], folder, OPTIONS, shard_samples=3, progress=stop_in_the_third)
    kept = {path: path.stat().st_mtime_ns for path in (folder / PARTS).glob("*.tar")}
    assert len(kept) == 2
    assert read_index(folder).records == ()
    damaged = min(kept)
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])  # as a crash of the machine leaves it
    done = prepare([videos], folder, OPTIONS, shard_samples=3)
    assert done.made_frames == 10, "the whole one of the two was kept"
    assert done.new_samples == 3
    prepare([videos], tmp_path / "again", OPTIONS, shard_samples=3)
    assert fingerprint(folder) == fingerprint(tmp_path / "again")


def test_a_killed_run_goes_on_without_double_samples(whole, videos, tmp_path):
    folder = tmp_path / "dataset"
    command = [sys.executable, "-m", "ex4d", "train", "prepare", str(videos), "--out", str(folder), "--shard-samples=2"]
    command += ["--frames=5", "--size=64x48"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None and not list(folder.glob(f"{PARTS}/*.tar")):
        time.sleep(0.002)
    process.kill()
    process.wait()
    prepare([videos], folder, OPTIONS, shard_samples=2)
    left = {name: sums for name, sums in fingerprint(folder).items() if not name.startswith(PARTS)}
    assert left == fingerprint(whole[0])


def test_several_processes_stop_at_once_and_leave_nothing_half_made(videos, tmp_path):
    many = PrepareOptions(frame_count=5, size=(512, 512), variants=8)

    def stop_after_the_first(report):
        if report.stage == "Preparing samples" and report.i == 1:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        prepare([videos], tmp_path / "dataset", many, workers=2, progress=stop_after_the_first)
    parts = list((tmp_path / "dataset" / PARTS).iterdir())
    assert 1 <= len(parts) <= 5
    for part in parts:
        assert read_record(part).frame_count == 5


def test_more_videos_and_more_variants_extend_a_dataset(videos, tmp_path):
    folder = tmp_path / "dataset"
    prepare([videos / "b.mkv"], folder, OPTIONS)
    first = read_index(folder)
    again = prepare([videos / "b.mkv"], folder, OPTIONS)
    assert again.new_samples == 0
    assert read_index(folder) == first
    done = prepare([videos / "b.mkv", videos / "a.mkv"], folder, OPTIONS)
    assert done.new_samples == 2
    assert done.index.shards[0] == first.shards[0]
    more = PrepareOptions(frame_count=5, size=(64, 48), variants=2)
    done = prepare([videos / "b.mkv"], folder, more)
    assert done.new_samples == 1
    Dataset(folder).check()


def test_the_same_file_counts_once_wherever_it_lies(videos, tmp_path):
    copies = tmp_path / "copies"
    (copies / "deeper").mkdir(parents=True)
    shutil.copy(videos / "b.mkv", copies / "deeper" / "renamed.mkv")
    done = prepare([videos / "b.mkv", copies], tmp_path / "dataset", OPTIONS)
    assert len(done.index.records) == 1
    assert done.skipped == {"renamed.mkv": "the same file as b.mkv"}


def test_what_gives_no_sample_is_said_and_the_rest_is_made(videos, tmp_path):
    footage(tmp_path / "short.mkv", 4, 3)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    content = (videos / "a.mkv").read_bytes()
    at = int(len(content) * 0.95)
    (tmp_path / "scratched.mkv").write_bytes(content[:at] + bytes(64) + content[at + 64 :])
    given = [tmp_path / name for name in ("short.mkv", "broken.mp4", "scratched.mkv")]
    done = prepare([*given, videos / "b.mkv"], tmp_path / "dataset", OPTIONS)
    assert {record.source for record in done.index.records} <= {"b.mkv", "scratched.mkv"}
    assert done.skipped["short.mkv"] == "it has 4 frames, a sample needs 5"
    assert "cannot be decoded" in done.skipped["broken.mp4"]
    assert "short.mkv" in read_index(tmp_path / "dataset").skipped
    with pytest.raises(InputError, match=r"No sample could be made.*short\.mkv"):
        prepare([tmp_path / "short.mkv"], tmp_path / "none", OPTIONS)


def test_a_clip_with_a_cut_gives_no_sample_and_fast_motion_is_no_cut(videos, tmp_path):
    light, dark = np.full((48, 64, 3), 200, np.uint8), np.full((48, 64, 3), 20, np.uint8)
    write_video(tmp_path / "cut.mkv", np.stack([light] * 3 + [dark] * 2), Fraction(24), "ffv1")
    done = prepare([tmp_path / "cut.mkv", videos / "b.mkv"], tmp_path / "dataset", OPTIONS)
    assert "a cut after frame 2" in done.skipped["cut.mkv, frames 0 to 4"]
    assert [record.source for record in done.index.records] == ["b.mkv"]
    noise = np.random.default_rng(0).integers(0, 256, (7, 48, 64, 3), dtype=np.uint8)
    assert cut_after(noise) is None


@pytest.mark.parametrize("kind", SHARES)
def test_each_kind_of_mask_can_be_had_alone(videos, tmp_path, kind):
    done = prepare(
        [videos / "b.mkv"], tmp_path / "d", PrepareOptions(frame_count=5, size=(64, 48), shares=SHARES[kind])
    )
    record = done.index.records[0]
    assert done.kinds == {kind: 1}
    assert (record.depth_source is None) == (record.camera == {}) == (kind == "tracking")
    assert ("holes" in record.mask) == (kind != "rendering")


def test_depth_files_are_found_by_the_videos_name_and_belong_to_the_plates_size(tmp_path):
    footage(tmp_path / "large.mkv", 5, 4, size=(128, 108))
    depth = np.full((5, 108, 128), 4.0, np.float32)
    depth[:, 40:70, 50:80] = 2
    np.savez(tmp_path / "large_z.npz", depth=depth)
    options = PrepareOptions(
        depth="file", depth_file="{folder}/{name}_z.npz", frame_count=5, size=(64, 48), shares={"rendering": 1.0}
    )
    record = prepare([tmp_path], tmp_path / "dataset", options).index.records[0]
    assert record.depth_source == "file large_z.npz"
    assert record.commercial_use is None
    (tmp_path / "large_z.npz").unlink()
    with pytest.raises(InputError, match="large_z"):
        prepare([tmp_path / "large.mkv"], tmp_path / "other", options)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"frame_count": 48}, "4 n \\+ 1"),
        ({"size": (500, 512)}, "multiples of 16"),
        ({"variants": 0}, "at least one"),
        ({"jitter_px": -1}, "jitter"),
        ({"shares": {"rendering": 0.0}}, "not all 0"),
        ({"shares": {"sideways": 1.0}}, "sideways"),
        ({"shares": {"rendering": float("nan")}}, "nan"),
        ({"raster": "oil"}, "oil"),
        ({"seed": -1}, "seed"),
        ({"depth_kind": "q"}, "kind"),
    ],
)
def test_options_that_cannot_be_say_so(fields, words):
    with pytest.raises(InputError, match=words):
        PrepareOptions(**fields)


def test_bad_folders_settings_and_sources_stop_before_any_work(whole, videos, tmp_path):
    with pytest.raises(DatasetError, match=r"jitter_px was 4, now it is 5"):
        prepare([videos], whole[0], PrepareOptions(frame_count=5, size=(64, 48), jitter_px=5))
    (tmp_path / "something.txt").write_text("mine")
    with pytest.raises(DatasetError, match="no dataset"):
        prepare([videos], tmp_path, OPTIONS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no video"):
        prepare([tmp_path / "empty"], tmp_path / "d1", OPTIONS)
    with pytest.raises(InputError, match="no depth source"):
        prepare([videos], tmp_path / "d2", PrepareOptions(frame_count=5, depth="guess"))
    with pytest.raises(LicenceError):
        prepare([videos], tmp_path / "d3", PrepareOptions(frame_count=5, depth="depthcrafter"))
    with pytest.raises(InputError, match="workers"):
        prepare([videos], tmp_path / "d4", OPTIONS, workers=0)
    assert not (tmp_path / "d2").exists()


def test_the_command_line_reports_for_scripts_and_for_people(videos, tmp_path, capsys):
    arguments = ["train", "prepare", str(videos), "--out", str(tmp_path / "d"), "--frames", "5", "--size", "64x48"]
    arguments += ["--share", "tracking=1", "--caption", "noise", "--no-sheets"]
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["samples"], told["new"], told["masks"]) == (3, 3, {"tracking": 3})
    assert told["skipped"] == {}
    assert not (tmp_path / "d" / SHEETS).exists()
    assert main(arguments) == 0
    assert "3 tracking" in capsys.readouterr().out
    assert main([*arguments, "--seed", "9"]) == DatasetError.exit_code
    assert "other settings: seed was 0" in capsys.readouterr().err
