# SPDX-License-Identifier: Apache-2.0
"""`ex4d evaluate`: figures whose truth is known, damaged inputs, and the comparison page."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from measured_take import truth_files, turned

from ex4d.camera import CameraPath, pinhole_intrinsics, write_camera_path
from ex4d.cli import main
from ex4d.conditioning import render_conditioning
from ex4d.errors import CameraError, InputError, ShapeError, ShotError
from ex4d.evaluation.camera_error import camera_error, camera_errors
from ex4d.evaluation.evaluate import TruthFiles, evaluate_take
from ex4d.evaluation.flicker import flicker
from ex4d.evaluation.metrics import BEST_PSNR_DB, FRAME_METRICS, TAKE_METRICS
from ex4d.evaluation.page import page
from ex4d.evaluation.plots import line_plot
from ex4d.evaluation.record import Evaluation, read_evaluation, write_evaluation
from ex4d.evaluation.side import Side, read_side
from ex4d.evaluation.truth import Truth, depth_scores, precision_recall, read_truth, score_truth, true_visibility
from ex4d.video import write_video

RNG = np.random.default_rng(0)
TEXTURE = cv2.GaussianBlur(RNG.integers(0, 256, (96, 128, 3), dtype=np.uint8), (0, 0), 1.5)


# --- the camera, found again


def test_a_frame_of_another_camera_shows_by_how_much_it_is_off(small):
    scene = float(np.median(small.depth))
    asked = render_conditioning(small.plate, small.depth, small.intrinsics, "exact", small.cameras, "cpu")
    for degrees, share in ((0.0, 0.0), (1.5, 0.0), (0.0, 0.03), (2.0, 0.02)):
        path = turned(small.cameras, degrees, share * scene)
        shown = render_conditioning(small.plate, small.depth, small.intrinsics, "exact", path, "cpu").color
        for n, found in enumerate(camera_errors(shown, asked, small.cameras)):
            assert found is not None
            depth = float(np.median(asked.depth[n][asked.mask[n]]))
            assert found.rotation_deg == pytest.approx(degrees, abs=0.1)
            assert found.translation == pytest.approx(share * scene / depth, abs=0.003)
            if share == 0:
                focal_px = small.cameras.intrinsics[n, 0, 0]
                assert found.shift_px == pytest.approx(focal_px * np.tan(np.radians(degrees)), rel=0.1, abs=0.1)


def test_true_pictures_of_the_second_camera_are_found_where_it_truly_stood(small):
    asked = render_conditioning(small.plate, small.depth, small.intrinsics, "exact", small.cameras, "cpu")
    for found in camera_errors(small.color, asked, small.cameras):
        assert found is not None
        assert found.rotation_deg < 0.1
        assert found.translation < 0.003


def test_a_frame_that_shows_something_else_is_not_localised(small):
    asked = render_conditioning(small.plate, small.depth, small.intrinsics, "exact", small.cameras, "cpu")
    other = RNG.integers(0, 256, asked.color[0].shape, dtype=np.uint8)
    for picture in (other, np.zeros_like(other)):
        assert camera_error(picture, asked.color[0], asked.depth[0], asked.mask[0], small.intrinsics) is None
    nothing = np.zeros_like(asked.mask[0])
    assert camera_error(asked.color[0], asked.color[0], asked.depth[0], nothing, small.intrinsics) is None
    with pytest.raises(ShapeError, match="like the mesh"):
        camera_errors(asked.color[:, :-1], asked, small.cameras)


# --- flicker


def test_injected_brightness_noise_is_the_flicker_that_is_measured():
    still = np.stack([TEXTURE // 2 + 60] * 5)
    assert [pair[0] for pair in flicker(still)] == [None, 0, 0, 0, 0]
    noisy = still.copy()
    noisy[1::2] += 9
    assert [pair[0] for pair in flicker(noisy)][1:] == pytest.approx([9] * 4, abs=0.05)
    half = np.zeros(noisy.shape[:3], bool)
    half[:, :, :64] = True
    noisy = still.copy()
    noisy[1::2, :, :64] += 8
    for everywhere, painted_half in flicker(noisy, half)[1:]:
        assert everywhere == pytest.approx(4, abs=0.3)
        assert painted_half == pytest.approx(8, abs=0.3)


def test_motion_is_no_flicker():
    moving = np.stack([np.roll(TEXTURE, 2 * n, axis=1) for n in range(4)])
    standing = [float(np.abs(moving[n].astype(float) - moving[n - 1]).mean()) for n in range(1, 4)]
    assert all(pair[0] < 0.2 * change for pair, change in zip(flicker(moving)[1:], standing, strict=True))


def test_nothing_is_followed_in_tiny_pictures():
    assert flicker(np.zeros((3, 12, 40, 3), np.uint8)) == [(None, None)] * 3
    assert len(flicker(np.zeros((3, 32, 40, 3), np.uint8))) == 3


# --- against the truth


def test_identical_clips_are_perfect_by_every_measure():
    color, depth = np.stack([TEXTURE] * 2), np.full((2, 96, 128), 3.0)
    mask = np.ones(depth.shape, bool)
    mask[:, :, 100:] = False
    scores = score_truth(Truth(Path(), np.array([0, 1]), color, depth), color, mask, depth, mask)
    for name in ("psnr_db", "psnr_seen_db", "psnr_painted_db"):
        assert scores[name] == [BEST_PSNR_DB, BEST_PSNR_DB]
    for name in ("ssim", "ssim_seen", "ssim_painted", "mask_precision", "mask_recall", "depth_delta1"):
        assert scores[name] == pytest.approx([1, 1])
    assert scores["depth_abs_rel"] == [0, 0]
    assert set(scores) <= set(FRAME_METRICS)


def test_only_what_was_painted_counts_for_the_painted_score():
    mask = np.ones((1, 96, 128), bool)
    mask[:, :, 64:] = False
    worse = TEXTURE[None].astype(np.int64)
    worse[:, :, 64:] += np.where(worse[:, :, 64:] < 128, 10, -10)
    result, flat = worse.astype(np.uint8), np.ones((1, 96, 128))
    scores = score_truth(Truth(Path(), np.array([0]), TEXTURE[None]), result, mask, flat, None)
    expected = 10 * np.log10(255**2 / 100)
    assert scores["psnr_seen_db"] == [BEST_PSNR_DB]
    assert scores["psnr_painted_db"] == pytest.approx([expected])
    assert scores["psnr_db"] == pytest.approx([expected + 10 * np.log10(2)])
    assert "mask_precision" not in scores
    everything = score_truth(Truth(Path(), np.array([0]), TEXTURE[None]), result, mask | True, flat, None)
    assert everything["psnr_painted_db"] == everything["ssim_painted"] == [None]


def test_true_visibility_of_a_card_before_a_wall_is_the_analytic_one():
    """A card at 2 covers columns 24 to 39 of the plate, a wall at 4 the rest. A quarter to the right with f = 64, the
    card moves 8 columns and the wall 4: columns 32 to 35 are uncovered, and 60 to 63 come into the picture."""
    lens = pinhole_intrinsics(64, 64, 64)
    plate_depth = np.full((1, 64, 64), 4.0, np.float32)
    plate_depth[..., 24:40] = 2
    new_depth = np.full((1, 64, 64), 4.0, np.float32)
    new_depth[..., 16:32] = 2
    pose = np.eye(4)
    pose[0, 3] = -0.25
    path = CameraPath(pose[None], lens[None], 64, 64, np.zeros(1))
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    truth = Truth(Path(), np.array([0]), picture, new_depth, plate_depth)
    seen = true_visibility(truth, picture, lens, path)
    expected = np.ones((64, 64), bool)
    expected[:, 32:36] = expected[:, 60:] = False
    assert np.array_equal(seen[0], expected)
    claimed = np.zeros((64, 64), bool)
    claimed[:, :34] = True  # 32 columns rightly, 2 wrongly, of 56
    assert precision_recall(claimed, seen[0]) == pytest.approx((32 / 34, 32 / 56))
    assert precision_recall(claimed & False, seen[0]) == (None, 0)
    assert true_visibility(dataclasses.replace(truth, depth=None), picture, lens, path) is None


def test_depth_scores_count_as_the_literature_does():
    truth = np.full((10, 10), 2.0)
    depth = truth.copy()
    depth[:5] *= 1.2
    depth[5:] /= 1.3
    absolute, share = depth_scores(depth, truth, np.ones((10, 10), bool))
    assert absolute == pytest.approx((0.2 + (1 - 1 / 1.3)) / 2)
    assert share == 0.5


# --- a whole take


def test_a_take_is_measured_and_its_figures_read_back(painted, tmp_path):
    found = evaluate_take(painted, "one", truth_files(painted))
    assert set(found.frames) | {"lpips"} == set(FRAME_METRICS)
    assert set(found.totals) == set(TAKE_METRICS)
    assert found.totals["localised"] == 1
    assert found.mean("rotation_error_deg") < 0.05
    assert found.mean("kept_psnr_db") == BEST_PSNR_DB  # the preview keeps every pixel that the plate shows
    assert found.mean("psnr_seen_db") > found.mean("psnr_db") > found.mean("psnr_painted_db") > 10
    assert found.mean("mask_precision") > 0.9
    assert found.mean("plate_depth_abs_rel") == 0
    assert {"fid", "fvd", "vbench"} <= set(found.blank)
    assert ("lpips" in found.blank) == ("lpips" not in found.frames)
    assert read_evaluation(write_evaluation(tmp_path, found)) == found
    without = evaluate_take(painted, "one")
    assert "truth" in without.blank
    assert "psnr_db" not in without.frames
    assert without.frames["kept_ssim"] == found.frames["kept_ssim"]


def test_a_truth_folder_may_know_some_frames_only(painted, small, tmp_path):
    (tmp_path / "truth").mkdir()
    for n in (0, 2):
        cv2.imwrite(str(tmp_path / "truth" / f"{n:04d}.png"), small.color[n][..., ::-1])
    np.savez(tmp_path / "truth_depth.npz", depth=small.color_depth[[0, 2]])
    np.savez(tmp_path / "depth.npz", depth=small.depth)
    write_camera_path(tmp_path / "second_camera.npz", small.cameras)
    found = evaluate_take(painted, "one", TruthFiles(tmp_path))
    whole = evaluate_take(painted, "one", truth_files(painted))
    for name in ("psnr_db", "mask_recall", "depth_abs_rel"):
        assert found.frames[name] == (whole.frames[name][0], None, whole.frames[name][2])
    assert found.about["flicker_against"] == "plate"


def test_ranges_hold_the_frames_up_to_each_angle():
    angles = (0.0, 20.0, 45.0, 50.0, 95.0)
    frames = {"angle_deg": angles, "psnr_db": (40.0, 30.0, None, 20.0, 10.0)}
    ranges = Evaluation("t", 5, frames, {}, {}, {}).ranges()
    assert {name: row["frames"] for name, row in ranges.items()} == {"0-30": 2, "0-60": 4}
    assert ranges["0-30"]["psnr_db"] == 35
    assert ranges["0-60"]["psnr_db"] == 30


# --- the command and its page


def test_the_command_writes_figures_and_a_page_with_both_names_and_every_metric(painted, tmp_path, capsys):
    folders = [tmp_path / "a", tmp_path / "b"]
    known = ["--truth", str(painted / "truth.mkv"), "--truth-camera", str(painted / "true_camera.npz")]
    for folder, extra in zip(folders, ([], known), strict=True):
        assert main(["evaluate", str(painted), "--take", "one", "--out", str(folder), "--json", *extra]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["summary"]["kept_psnr_db"]["mean"] == BEST_PSNR_DB
    written = tmp_path / "page.html"
    given = ["--name", "before <1>", "--name", "after"]
    assert main(["evaluate", "compare", *map(str, folders), "--out", str(written.with_suffix("")), *given]) == 0
    text = written.read_text(encoding="utf-8")
    for metric in (*FRAME_METRICS.values(), *TAKE_METRICS.values()):
        assert metric.label in text
    assert "before &lt;1&gt;" in text
    assert "after" in text
    assert text.count("data:image/jpeg") == 3 * 5
    assert text.count("<svg") > 8
    for outside in ("<script", "http", "<link", 'src="/', "before <1>"):
        assert outside not in text


def test_the_page_shows_the_truth_while_it_is_there(painted, small, tmp_path):
    path = tmp_path / "truth.mkv"
    write_video(path, small.color, Fraction(24), "ffv1")
    found = evaluate_take(painted, "one", TruthFiles(path))
    write_evaluation(tmp_path, dataclasses.replace(found, about=found.about | {"folder": str(painted / "takes/one")}))
    assert '<th class="">Truth<' in page([read_side(tmp_path)])
    path.unlink()
    assert "Truth<" not in page([read_side(tmp_path)])


def test_the_page_marks_the_better_figure_and_says_when_both_are_alike():
    picture = np.zeros((2, 40, 40, 3), np.uint8)

    def side(name, psnr, flicker_, unseen):
        frames = {
            "angle_deg": (0.0, 1.0),
            "psnr_db": (psnr, psnr),
            "flicker": (None, flicker_),
            "unseen": (unseen,) * 2,
        }
        return Side(name, Evaluation("t", 2, frames, {}, {}, {}), picture, picture, False)

    text = page([side("one", 30.0, 2.0, 0.5), side("two", 31.0, 3.0, 0.5)])
    assert '<td class="">30.00 dB</td><td class="best">31.00 dB</td><td>+1.00 dB</td>' in text
    assert '<td class="best">2.00</td><td class="">3.00</td><td>+1.00</td>' in text
    assert '<td class="">50.0 %</td><td class="">50.0 %</td><td>same</td>' in text
    assert "Of 3 figures one is better in 1, two in 1; 1 are the same." in text
    assert 'warning">' not in text


@pytest.mark.parametrize(
    ("plates", "cameras", "said"),
    [
        ("aa", "cd", "different cameras"),
        ("ab", "cd", "different plates"),
        ("aa", "cc", None),
        (("a", None), "cc", None),
    ],
)
def test_the_page_says_when_takes_cannot_be_held_against_each_other(plates, cameras, said):
    picture = np.zeros((2, 40, 40, 3), np.uint8)
    frames = {"angle_deg": (0.0, 1.0)}
    sides = [
        Side(
            plate or "",
            Evaluation("t", 2, frames, {}, {}, {"plate_sha256": plate}, {"camera.npz": camera}),
            picture,
            picture,
            False,
        )
        for plate, camera in zip(plates, cameras, strict=True)
    ]
    text = page(sides)
    assert ('warning">' in text) == (said is not None)
    assert said is None or said in text


def test_a_plot_spans_its_figures():
    text = line_plot([(1.0, None, 3.0), (2.0, 2.0, 2.0)], ["a", "b"])
    assert text.count("<polyline") == 2
    assert ">1<" in text
    assert ">3<" in text
    assert "nan" not in line_plot([(5.0, 5.0)], ["a"])


# --- what cannot be used


def test_takes_that_cannot_be_measured_are_refused(painted, small, tmp_path):
    with pytest.raises(ShotError, match=r"take\.json"):
        evaluate_take(painted, "none")
    result = painted / "takes" / "one" / "result.mkv"
    kept = result.read_bytes()
    try:
        result.unlink()
        with pytest.raises(InputError, match="not painted yet"):
            evaluate_take(painted, "one")
        write_video(result, small.color[:2], Fraction(24), "ffv1")
        with pytest.raises(ShotError, match="Generate the take again"):
            evaluate_take(painted, "one")
    finally:
        result.write_bytes(kept)


def test_truths_that_do_not_fit_are_refused(painted, small, tmp_path):
    files = truth_files(painted)
    write_camera_path(tmp_path / "off.npz", turned(small.cameras, 0.5, 0))
    with pytest.raises(InputError, match=r"another path.*0\.50 degrees"):
        evaluate_take(painted, "one", dataclasses.replace(files, camera=tmp_path / "off.npz"))
    write_video(tmp_path / "short.mkv", small.color[:2], Fraction(24), "ffv1")
    with pytest.raises(InputError, match="has 2 frames, the take has 3"):
        evaluate_take(painted, "one", TruthFiles(tmp_path / "short.mkv"))
    write_video(tmp_path / "small.mkv", small.color[:, :96, :96], Fraction(24), "ffv1")
    with pytest.raises(InputError, match="sizes differ"):
        evaluate_take(painted, "one", TruthFiles(tmp_path / "small.mkv"))
    np.savez(tmp_path / "small.npz", depth=small.color_depth[:, :96])
    with pytest.raises(InputError, match="the true pictures are"):
        evaluate_take(painted, "one", dataclasses.replace(files, depth=tmp_path / "small.npz"))
    with pytest.raises(InputError, match="plate's true depth"):
        evaluate_take(painted, "one", dataclasses.replace(files, plate_depth=tmp_path / "small.npz"))
    (tmp_path / "truth").mkdir()
    with pytest.raises(InputError, match="no true pictures"):
        read_truth(tmp_path, 3, 3)
    (tmp_path / "truth" / "0000.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="damaged"):
        read_truth(tmp_path, 3, 3)
    with pytest.raises(CameraError):
        read_truth(painted / "truth.mkv", 3, 3, camera=tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 99}, "newer version"),
        ({"frames": {"angle_deg": [0.0]}}, "list of 2"),
        ({"frames": {"angle_deg": [0.0, "x"]}}, "numbers or null"),
        ({"frames": {"psnr_db": [0.0, 1.0]}}, "lack angle_deg"),
        ({"totals": {"localised": "all"}}, "must be a number"),
        ({"blank": None}, "blank"),
    ],
)
def test_damaged_figures_are_refused(tmp_path, change, said):
    found = Evaluation("t", 2, {"angle_deg": (0.0, 1.0)}, {"localised": 1.0}, {}, {})
    path = write_evaluation(tmp_path, found)
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(ShotError, match=said):
        read_evaluation(path)


def test_commands_that_make_no_sense_say_so(painted, tmp_path, capsys):
    for given, said in (
        (["compare", "a", "--out", "p"], "needs two takes"),
        (["compare", "a", "b"], "needs two takes"),
        (["a", "b"], "One shot at a time"),
        ([str(painted), "--take", "one", "--truth-depth", "x"], "belong to --truth"),
        (["compare", str(tmp_path), str(tmp_path), "--out", "p"], "Measure the take first"),
        (["compare", "a", "b", "--out", "p", "--name", "c"], "twice or not at all"),
    ):
        assert main(["evaluate", *given]) == InputError.exit_code
        assert said in capsys.readouterr().err


def test_a_result_painted_again_after_it_was_measured_is_told(painted, tmp_path):
    take = painted / "takes" / "one"
    for file in ("result.mkv", "color.mkv"):
        (tmp_path / file).write_bytes((take / file).read_bytes())
    found = evaluate_take(painted, "one")
    write_evaluation(tmp_path, dataclasses.replace(found, hashes={"result.mkv": "0" * 64}))
    assert read_side(tmp_path).stale
    write_evaluation(tmp_path, found)
    assert not read_side(tmp_path).stale
    write_evaluation(tmp_path, dataclasses.replace(found, frame_count=2, frames={"angle_deg": (0.0, 1.0)}))
    with pytest.raises(InputError, match="2 were measured"):
        read_side(tmp_path)
