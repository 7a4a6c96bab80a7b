# SPDX-License-Identifier: Apache-2.0
"""Build the Blender extension zip: the add-on, a copy of shared_protocol, and the wheels it needs.

    python build_addon.py [--out dist]

Standard library only. The wheels of wheels.lock are fetched once with `pip download` into build/wheels and checked
against their sha256; later runs need no network. The same sources give the same bytes.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent
ADDON = REPOSITORY / "blender_addon"
PROTOCOL = REPOSITORY / "shared_protocol"
WHEELS_LOCK = REPOSITORY / "wheels.lock"
WHEEL_CACHE = REPOSITORY / "build" / "wheels"

# The zip format cannot store an earlier date; a fixed one makes the bytes reproducible.
ZIP_DATE = (1980, 1, 1, 0, 0, 0)

# What the tests and Python itself leave in the source folders.
NOT_SHIPPED = ("__pycache__", "tests")


class BuildError(Exception):
    """The zip cannot be built; the message says what to do."""


def read_wheels_lock(path: Path) -> dict[str, str]:
    """Return {wheel file name: sha256} of the lock file."""
    wheels: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or len(words[0]) != 64 or not words[1].endswith(".whl"):
            raise BuildError(f"{path.name} line {number} must be 'sha256 file.whl', got '{line}'.")
        wheels[words[1]] = words[0]
    return wheels


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def download_command(wheel: str, folder: Path) -> list[str]:
    """The pip command that fetches exactly this wheel, whatever Python and system we run on.

    A wheel's name is name-version-python-abi-platforms (PyPA binary distribution format).
    """
    name, version, python, abi, platforms = wheel.removesuffix(".whl").split("-")
    platform = platforms.split(".")[-1]
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--dest", str(folder)),
        *("--implementation", "cp", "--python-version", python.removeprefix("cp"), "--abi", abi),
        *("--platform", platform, f"{name}=={version}"),
    ]


def fetch_wheels(wheels: dict[str, str], cache: Path) -> list[Path]:
    """Return the wheels' paths in the cache; download what is missing, refuse what has the wrong sha256."""
    cache.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (wheel, sha256) in enumerate(wheels.items(), start=1):
        path = cache / wheel
        if not path.is_file():
            print(f"Fetching wheel {number} of {len(wheels)}: {wheel}", flush=True)
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                try:
                    subprocess.run(download_command(wheel, Path(folder)), check=True)
                except subprocess.CalledProcessError as error:
                    raise BuildError(f"pip could not fetch {wheel}. Check the network or the package index.") from error
                fetched = Path(folder) / wheel
                if not fetched.is_file():
                    found = ", ".join(sorted(item.name for item in Path(folder).iterdir())) or "nothing"
                    raise BuildError(f"pip fetched {found} where wheels.lock names {wheel}.")
                fetched.replace(path)
        found_sha256 = sha256_of(path)
        if found_sha256 != sha256:
            raise BuildError(f"{path} has sha256 {found_sha256}, wheels.lock wants {sha256}. Delete it and run again.")
        paths.append(path)
    return paths


def read_manifest(wheels: list[Path]) -> tuple[str, str, bytes]:
    """Return the extension's id, its version, and the manifest with the wheels filled in.

    The manifest in the sources lists no wheels, so that wheels.lock is the only place that names them.
    """
    text = (ADDON / "blender_manifest.toml").read_text(encoding="utf-8")
    marker = "wheels = []"
    if text.count(marker) != 1:
        raise BuildError(f"blender_manifest.toml must hold '{marker}' exactly once.")
    lines = "".join(f'  "./wheels/{wheel.name}",\n' for wheel in wheels)
    text = text.replace(marker, f"wheels = [\n{lines}]")
    manifest = tomllib.loads(text)
    return manifest["id"], manifest["version"], text.encode()


def source_files(folder: Path, prefix: str) -> dict[str, Path]:
    """Return {name in the zip: path} of a source folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part in NOT_SHIPPED or part.startswith(".") for part in parts):
            found[prefix + "/".join(parts)] = path
    return found


def build(out: Path) -> Path:
    """Write the extension zip into the folder `out` and return its path."""
    if not (PROTOCOL / "__init__.py").is_file():
        raise BuildError(f"{PROTOCOL} is missing: build from a full checkout.")
    wheels = fetch_wheels(read_wheels_lock(WHEELS_LOCK), WHEEL_CACHE)
    identifier, version, manifest = read_manifest(wheels)
    contents = {name: path.read_bytes() for name, path in source_files(ADDON, "").items()}
    contents |= {name: path.read_bytes() for name, path in source_files(PROTOCOL, "shared_protocol/").items()}
    contents |= {f"wheels/{wheel.name}": wheel.read_bytes() for wheel in wheels}
    contents["blender_manifest.toml"] = manifest
    contents["LICENSE-shared_protocol"] = (REPOSITORY / "LICENSE").read_bytes()

    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{identifier}-{version}.zip"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, ZIP_DATE)
            entry.create_system = 3  # Unix: the same bytes on every system
            entry.external_attr = 0o644 << 16
            # Wheels are zips already.
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, contents[name])
    partial.replace(path)
    return path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "dist", help="folder for the zip (default: dist)")
    options = parser.parse_args(arguments)
    try:
        path = build(options.out)
    except BuildError as error:
        print(f"build_addon: {error}", file=sys.stderr)
        return 1
    print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
