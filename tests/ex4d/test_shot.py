# SPDX-License-Identifier: Apache-2.0
"""The shot folder and the take folder: what is written is what is read, and damage is named."""

import dataclasses
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ex4d.camera import CameraPath, pinhole_intrinsics
from ex4d.coverage import Coverage
from ex4d.depth import DepthClip
from ex4d.errors import InputError, ShotError, StorageError
from ex4d.shot import (
    DepthInfo,
    PlateInfo,
    Shot,
    Take,
    read_shot,
    read_take,
    read_take_clips,
    shot_from,
    write_shot,
    write_take,
    write_take_clips,
)
from ex4d.video import Clip


@pytest.fixture
def shot() -> Shot:
    rng = np.random.default_rng(0)
    return Shot(
        frames=rng.integers(0, 256, (3, 17, 24, 3), dtype=np.uint8),
        fps=Fraction(24000, 1001),
        depth=rng.uniform(0.5, 90, (3, 17, 24)).astype(np.float32),
        intrinsics=pinhole_intrinsics(31.41592653589793, 24, 17),
        convention="exact",
        plate=PlateInfo("/footage/Ünïcode plate.mov", "0" * 64, 12, "01:00:00:00"),
        depth_info=DepthInfo("file depth.npz", "CC-BY-4.0", True, "metric", None, {"kind": "z", "scale": 0.1}),
        sky=rng.random((3, 17, 24)) > 0.5,
        valid=None,
        notices=("The lens is unknown.", "…"),
    )


def same(a: Shot, b: Shot) -> bool:
    return all(
        np.array_equal(x, y) and x.dtype == y.dtype if isinstance(x, np.ndarray) else x == y
        for x, y in ((getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(Shot))
    )


def edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    for name, value in changes.items():
        *parents, last = name.split("__")
        target = content
        for parent in parents:
            target = target[parent]
        if value is KeyError:
            del target[last]
        else:
            target[last] = value
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_shot_is_read_as_it_was_written(tmp_path, shot):
    write_shot(tmp_path / "shot", shot)
    assert same(read_shot(tmp_path / "shot"), shot)
    assert sorted(path.name for path in (tmp_path / "shot").iterdir()) == ["depth.npz", "plate.mkv", "shot.json"]


def test_a_shot_of_one_frame_without_layers_is_read_as_it_was_written(tmp_path, shot):
    one = dataclasses.replace(
        shot,
        frames=shot.frames[:1],
        depth=shot.depth[:1],
        sky=None,
        valid=shot.depth[:1] > 3,
        convention="reference",
        plate=PlateInfo("a.png", "f" * 64, 0, None),
    )
    write_shot(tmp_path, one)
    assert same(read_shot(tmp_path), one)


def test_depth_in_half_precision_is_read_too(tmp_path, shot):
    write_shot(tmp_path, shot)
    half = shot.depth.astype(np.float16)
    np.savez(tmp_path / "depth.npz", depth=half)
    np.testing.assert_array_equal(read_shot(tmp_path).depth, half.astype(np.float32))


def test_a_clip_and_its_depth_become_a_shot(shot):
    clip = Clip(shot.frames, shot.fps, 5, Path("a.mov"), "a" * 64, "10:00:00:00", ("clip",))
    depth = DepthClip(
        depth=shot.depth,
        kind="relative",
        source="preview",
        licence="Apache-2.0",
        commercial_use=True,
        notices=("depth",),
    )
    made = shot_from(clip, depth, shot.intrinsics, "exact", ("clip", "lens"))
    assert made.plate == PlateInfo("a.mov", "a" * 64, 5, "10:00:00:00")
    assert made.depth_info.kind == "relative"
    assert made.notices == ("clip", "lens", "depth")


def test_a_newer_version_is_refused(tmp_path, shot):
    write_shot(tmp_path, shot)
    edit(tmp_path / "shot.json", schema=2)
    with pytest.raises(ShotError, match="newer version of EX-4D"):
        read_shot(tmp_path)


@pytest.mark.parametrize("name", ["shot.json", "plate.mkv", "depth.npz"])
def test_a_missing_or_damaged_file_is_named(tmp_path, shot, name):
    write_shot(tmp_path, shot)
    content = (tmp_path / name).read_bytes()
    for damaged in (b"", b"\x00\xff garbage", content[: len(content) // 2]):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ShotError, match=name):
            read_shot(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ShotError, match=name):
        read_shot(tmp_path)


def test_a_flipped_bit_in_the_depth_is_noticed(tmp_path, shot):
    write_shot(tmp_path, shot)
    content = bytearray((tmp_path / "depth.npz").read_bytes())
    content[len(content) // 3] ^= 1
    (tmp_path / "depth.npz").write_bytes(content)
    with pytest.raises(ShotError, match=r"depth\.npz"):
        read_shot(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("plate__width", "24"),
        ("plate__width", 25),
        ("plate__width", KeyError),
        ("plate__first_frame", True),
        ("plate__first_frame", 1.5),
        ("plate__fps", "25/0"),
        ("plate__fps", "-25"),
        ("plate__fps", 25),
        ("plate__sha256", None),
        ("plate", []),
        ("intrinsics", [[1, 0, 0], [0, 1, 0]]),
        ("intrinsics", [[1, 0, "a"], [0, 1, 0], [0, 0, 1]]),
        ("intrinsics", [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ("convention", "other"),
        ("depth__commercial_use", 1),
        ("depth__kind", "guess"),
        ("depth__focal_px", "long"),
        ("depth__parameters", []),
        ("notices", "text"),
        ("notices", [1]),
        ("schema", "1"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(tmp_path, shot, field, value):
    write_shot(tmp_path, shot)
    edit(tmp_path / "shot.json", **{field: value})
    with pytest.raises(ShotError, match=field.split("__")[-1] if value != 25 else "plate"):
        read_shot(tmp_path)


@pytest.mark.parametrize("change", ["nan", "zero", "size", "type", "sky"])
def test_depth_that_does_not_fit_is_refused(tmp_path, shot, change):
    write_shot(tmp_path, shot)
    depth, layers = shot.depth.copy(), {}
    if change == "nan":
        depth[1, 2, 3] = np.nan
    elif change == "zero":
        depth[1, 2, 3] = 0
    elif change == "size":
        depth = depth[:, :-1]
    elif change == "type":
        depth = depth.astype(np.float64)
    else:
        layers["sky"] = np.zeros((3, 4, 5), bool)
    np.savez(tmp_path / "depth.npz", depth=depth, **layers)
    with pytest.raises(ShotError, match=r"depth\.npz"):
        read_shot(tmp_path)


FULL_DISK = """
import resource, sys
from pathlib import Path
from ex4d.errors import StorageError
from ex4d.shot import read_shot, write_shot
shot = read_shot(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    write_shot(Path(sys.argv[2]), shot)
except StorageError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_full_disk_leaves_no_shot_that_looks_whole(tmp_path, shot):
    write_shot(tmp_path / "a", shot)
    room_for_the_plate = (tmp_path / "a" / "plate.mkv").stat().st_size + 100
    assert room_for_the_plate < (tmp_path / "a" / "depth.npz").stat().st_size
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a"), str(tmp_path / "b"), str(room_for_the_plate)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 7, result.stderr
    assert "depth.npz" in result.stdout
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["plate.mkv"]


# --------------------------------------------------------------------------------------------------------- takes


@pytest.fixture
def take() -> Take:
    coverage = Coverage((0.125, 0.1, 0.6, 1 / 3), (0.0, 2.5, 1e-9, 12.25))
    return Take("take1", "cpu", "preview", 7, coverage, {"shot.json": "0" * 64}, "0.1.0", False, ("notice",))


@pytest.fixture
def cameras() -> CameraPath:
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 1, 4)
    intrinsics = np.tile(pinhole_intrinsics(20.0, 12, 10), (4, 1, 1))
    return CameraPath(poses, intrinsics, 12, 10, np.array([0, 0.5, 1, 2.0]))


def test_a_take_is_read_as_it_was_written(tmp_path, take):
    write_take(tmp_path, take)
    assert read_take(tmp_path, "take1") == take
    unpainted = dataclasses.replace(take, engine=None, seed=None)
    write_take(tmp_path, unpainted)
    assert read_take(tmp_path, "take1") == unpainted


def test_a_take_keeps_its_clips_bit_for_bit(tmp_path, take, cameras):
    rng = np.random.default_rng(1)
    color = rng.integers(0, 256, (4, 10, 12, 3), dtype=np.uint8)
    mask = rng.random((4, 10, 12)) > 0.5
    (tmp_path / "takes" / "take1").mkdir(parents=True)
    (tmp_path / "takes" / "take1" / "result.mkv").write_bytes(b"older result")
    write_take_clips(tmp_path, take, cameras, color, mask, Fraction(25))
    back, path, color_back, mask_back = read_take_clips(tmp_path, "take1")
    assert back == take
    np.testing.assert_array_equal(path.world_to_camera, cameras.world_to_camera)
    np.testing.assert_array_equal(color_back, color)
    np.testing.assert_array_equal(mask_back, mask)
    assert not (tmp_path / "takes" / "take1" / "result.mkv").exists()


@pytest.mark.parametrize("name", ["take.json", "camera.npz", "color.mkv", "mask.mkv"])
def test_a_missing_file_of_a_take_is_named(tmp_path, take, cameras, name):
    write_take_clips(
        tmp_path, take, cameras, np.zeros((4, 10, 12, 3), np.uint8), np.ones((4, 10, 12), bool), Fraction(25)
    )
    (tmp_path / "takes" / "take1" / name).unlink()
    with pytest.raises(ShotError, match=name):
        read_take_clips(tmp_path, "take1")


def test_clips_of_another_size_than_the_path_are_refused(tmp_path, take, cameras):
    mask = np.ones((4, 10, 12), bool)
    write_take_clips(tmp_path, take, cameras, np.zeros((3, 10, 12, 3), np.uint8), mask, Fraction(25))
    with pytest.raises(ShotError, match=r"color\.mkv"):
        read_take_clips(tmp_path, "take1")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", ".hidden", "a" * 65, "con:", "ends."])
def test_a_take_needs_a_name_that_is_safe_on_every_system(tmp_path, take, name):
    with pytest.raises(InputError, match="name"):
        write_take(tmp_path, dataclasses.replace(take, name=name))


def test_a_folder_in_the_way_is_a_storage_error(tmp_path, take, cameras):
    (tmp_path / "takes").write_text("a file")
    with pytest.raises(StorageError):
        write_take_clips(
            tmp_path, take, cameras, np.zeros((4, 10, 12, 3), np.uint8), np.ones((4, 10, 12), bool), Fraction(25)
        )
