# SPDX-License-Identifier: Apache-2.0
"""The extension zip: complete, checked, reproducible."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import build_addon  # noqa: E402


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_addon.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture
def manifest(package: Path) -> dict:
    with zipfile.ZipFile(package) as archive:
        return tomllib.loads(archive.read("blender_manifest.toml").decode())


def test_the_zip_is_named_after_the_extension_and_its_version(package: Path, manifest: dict) -> None:
    assert package.name == f"{manifest['id']}-{manifest['version']}.zip"
    assert manifest["id"] == "ex4d_reshoot"


def test_the_extension_has_the_versions_of_the_library(manifest: dict) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert manifest["version"] == project["project"]["version"]


def test_the_zip_holds_the_addon_the_protocol_and_every_wheel_of_the_manifest(package: Path, manifest: dict) -> None:
    with zipfile.ZipFile(package) as archive:
        names = set(archive.namelist())
    assert {"__init__.py", "blender_manifest.toml", "LICENSE", "shared_protocol/background.py"} <= names
    assert {wheel.removeprefix("./") for wheel in manifest["wheels"]} == {
        name for name in names if name.endswith(".whl")
    }
    assert not [name for name in names if "__pycache__" in name or name.startswith(("/", "tests/"))]


def test_every_platform_has_wheels_for_every_python_that_blender_uses(manifest: dict) -> None:
    tags = {"linux-x64": "manylinux", "windows-x64": "win_amd64", "macos-arm64": "macosx", "macos-x64": "macosx"}
    assert set(manifest["platforms"]) == set(tags)
    for tag in tags.values():
        for package, pythons in {"pyzmq": ("cp311", "abi3"), "msgpack": ("cp311", "cp313")}.items():
            for python in pythons:
                assert [w for w in manifest["wheels"] if f"/{package}-" in w and python in w and tag in w]


def test_the_manifest_keeps_blenders_rules(manifest: dict) -> None:
    assert "blender" not in manifest["name"].lower()
    for text in (manifest["tagline"], *manifest["permissions"].values()):
        assert len(text) <= 64
        assert text[-1].isalnum()


def test_the_same_sources_give_the_same_bytes(package: Path, tmp_path: Path) -> None:
    assert build_addon.build(tmp_path).read_bytes() == package.read_bytes()


def test_cached_wheels_need_no_pip(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*command: object, **options: object) -> None:
        raise AssertionError("a cached build must not call pip")

    monkeypatch.setattr(subprocess, "run", no_network)
    build_addon.build(tmp_path)


def test_a_wheel_with_other_bytes_is_refused(tmp_path: Path) -> None:
    name = "msgpack-1.2.4-cp311-cp311-win_amd64.whl"
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(build_addon.BuildError, match="Delete it and run again"):
        build_addon.fetch_wheels({name: "0" * 64}, tmp_path)


def test_a_damaged_lock_file_is_refused_with_the_line(tmp_path: Path) -> None:
    lock = tmp_path / "wheels.lock"
    lock.write_text("# comment\nabc file.whl\n", encoding="utf-8")
    with pytest.raises(build_addon.BuildError, match="line 2"):
        build_addon.read_wheels_lock(lock)


@pytest.mark.parametrize(
    ("wheel", "platform"),
    [
        ("pyzmq-27.3.0-cp312-abi3-macosx_10_15_universal2.whl", "macosx_10_15_universal2"),
        ("msgpack-1.2.4-cp314-cp314-manylinux2014_x86_64.manylinux_2_28_x86_64.whl", "manylinux_2_28_x86_64"),
    ],
)
def test_pip_is_asked_for_exactly_the_wheel(wheel: str, platform: str) -> None:
    words = build_addon.download_command(wheel, Path("cache"))
    name, version, python, abi, _ = wheel.removesuffix(".whl").split("-")
    assert words[-1] == f"{name}=={version}"
    assert words[words.index("--platform") + 1] == platform
    assert words[words.index("--python-version") + 1] == python.removeprefix("cp")
    assert words[words.index("--abi") + 1] == abi
