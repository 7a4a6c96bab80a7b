#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Set up and run EX-4D from a clone, with nothing but Python and its standard library.

    python3 dev.py demo [--clip FILE]      install what is missing, then do an artist's whole job once
    python3 dev.py test [--blender 5.2]    lint, type-check and test; with --blender only the add-on, in that version
    python3 dev.py setup [EXTRA ...]       install only; with extras of pyproject.toml: depth wan for a GPU
    python3 dev.py lint | addon            check the code; build dist/ex4d_reshoot-*.zip
    python3 dev.py bench                   the speed figures of docs/benchmarks.md, beside what else one would take

Two environments, as on an artist's machine: .venv holds the library and the server, .venv-blender holds Blender as a
Python module and nothing of ours, so that the extension proves itself with what its zip brings.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
BIN = "Scripts" if os.name == "nt" else "bin"
EXTRAS = ROOT / ".venv-extras"  # outlives `.venv`, which is made anew when its inputs change
SUPPORTED = ((3, 11), (3, 12), (3, 13))

# Blender release -> (newest bpy module of that line, the only Python it is built for)
BLENDERS = {
    "4.2": ("4.2.23", (3, 11)),
    "4.5": ("4.5.15", (3, 11)),
    "5.0": ("5.0.1", (3, 11)),
    "5.2": ("5.2.2", (3, 13)),
}
# They want a Ray node of their own.
RAY_TESTS = tuple(f"tests/server/test_{name}.py" for name in ("on_ray", "placing", "prepare_on_ray"))
# Shared libraries that the bpy module loads on Linux -> their Debian and Ubuntu packages
LINUX_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libICE.so.6": "libice6",
    "libSM.so.6": "libsm6",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libXrender.so.1": "libxrender1",
    "libXxf86vm.so.1": "libxxf86vm1",
    "libxkbcommon.so.0": "libxkbcommon0",
}


def stop(message: str) -> NoReturn:
    """End with one sentence for the person at the terminal."""
    sys.exit(f"dev.py: {message}")


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a command, show its output, and end with its exit code when it fails."""
    words = [str(word) for word in command]
    print("$ " + " ".join(words), flush=True)
    result = subprocess.run(words, cwd=ROOT, env={**os.environ, **(env or {})})
    if result.returncode:
        sys.exit(result.returncode)


def venv_python(folder: Path) -> Path:
    return folder / BIN / ("python.exe" if os.name == "nt" else "python")


def check_python() -> None:
    """Refuse a Python on which the pinned packages have no wheels, in one sentence."""
    if sys.version_info[:2] not in SUPPORTED:
        found = ".".join(map(str, sys.version_info[:3]))
        stop(
            f"Python 3.11, 3.12 or 3.13 is needed, this is {found}. Install Python 3.11 from python.org or your system."
        )
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        stop("this Python cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install python3-venv")


def make_venv(folder: Path, python: str, what: str, installs: list[list[str]], inputs: list[Path]) -> Path:
    """Create a virtual environment and install into it, unless it already stands as asked.

    Args:
        folder: where it goes.
        python: the interpreter to build it from.
        what: one line for the person who waits.
        installs: arguments of one `pip install` each.
        inputs: files whose change makes a new installation necessary.
    """
    wanted = hashlib.sha256(repr((python, sys.version, installs)).encode())
    for path in inputs:
        wanted.update(path.read_bytes())
    stamp = folder / "dev-stamp"
    if stamp.exists() and stamp.read_text() == wanted.hexdigest():
        return venv_python(folder)
    print(f"{folder.name}: {what}. Once only.", flush=True)
    run(python, "-m", "venv", "--clear", folder)
    for arguments in installs:
        run(venv_python(folder), "-m", "pip", "install", "--disable-pip-version-check", *arguments)
    stamp.write_text(wanted.hexdigest())
    return venv_python(folder)


def add_extras(names: list[str]) -> None:
    """Have `.venv` hold these extras too, from now on."""
    import tomllib  # not above: a Python that is too old would end there, before `check_python` says so

    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    if unknown := set(names) - set(known):
        stop(f"there is no extra '{min(unknown)}'. There are {', '.join(sorted(known))}.")
    EXTRAS.write_text(" ".join(sorted({*asked_extras(), *names})))


def asked_extras() -> list[str]:
    return EXTRAS.read_text().split() if EXTRAS.exists() else []


def library_venv() -> Path:
    """`.venv`: the library, the server, the developer's tools and the extras asked for, at the pinned versions."""
    inputs = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    extras = ["dev", *asked_extras()]
    installs = [["--constraint", "constraints.txt", "--editable", f".[{','.join(extras)}]"]]
    what = "the library and the server, about 0.5 GB" + "".join(f", {extra}" for extra in extras[1:])
    return make_venv(ROOT / ".venv", sys.executable, what, installs, inputs)


def models_venv() -> Path:
    """`.venv-models`: the library with its neural networks and Ray, for their tests; it needs no GPU and no weights."""
    inputs = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    constrained = ["--constraint", "constraints.txt"]
    # torch first: what depends on it then takes the build that is there, which may be one without CUDA.
    installs = [[*constrained, "torch"], [*constrained, "--editable", ".[dev,depth,judges,ray,wan,train]"]]
    return make_venv(ROOT / ".venv-models", sys.executable, "the models' libraries, Ray, 2 to 7 GB", installs, inputs)


def bench() -> None:
    """Every benchmark that needs no GPU, with its rivals in an environment of their own."""
    rivals = "benchmarks/requirements.txt"
    inputs = [ROOT / "pyproject.toml", ROOT / "constraints.txt", ROOT / rivals]
    installs = [["--constraint", "constraints.txt", "--editable", ".", "--requirement", rivals]]
    python = make_venv(ROOT / ".venv-bench", sys.executable, "the library and its rivals", installs, inputs)
    for script in sorted((ROOT / "benchmarks").glob("*_cpu.py")):
        run(python, script)


def python_for(version: tuple[int, int]) -> str | None:
    """Path of an interpreter of that version, or None."""
    if sys.version_info[:2] == version:
        return sys.executable
    number = "{}.{}".format(*version)
    launcher = shutil.which("py") if os.name == "nt" else None
    candidates = [[launcher, f"-{number}"]] if launcher else []
    candidates += [[path] for path in (shutil.which(f"python{number}"),) if path]
    pyenv = shutil.which("pyenv")
    if pyenv:
        prefix = subprocess.run([pyenv, "prefix", number], capture_output=True, text=True).stdout.strip()
        candidates += [[str(Path(prefix, "bin", "python"))]] if prefix else []
    for command in candidates:  # a name on the PATH may be a stand-in for an interpreter that is not there
        found = subprocess.run([*command, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.strip()
    return None


def blender_venv(release: str | None = None) -> Path:
    """`.venv-blender`: Blender as a Python module; the release that this Python can have, or the one asked for."""
    folder = ROOT / (f".venv-blender-{release}" if release else ".venv-blender")
    if release is None:
        release = {(3, 11): "4.5", (3, 13): "5.2"}.get(sys.version_info[:2])
    if release is None:
        stop("Blender's bpy module has no wheel for Python 3.12: use Python 3.11 (Blender 4.5) or 3.13 (Blender 5.2).")
    bpy_version, python_version = BLENDERS[release]
    python = python_for(python_version)
    if python is None:
        stop(f"Blender {release} needs Python {python_version[0]}.{python_version[1]}, which is not on this machine.")
    wanted = [f"bpy=={bpy_version}", "pytest==9.2.0", "numpy==1.26.4" if release < "5.1" else "numpy==2.4.6"]
    python_path = make_venv(
        folder, python, f"Blender {release}, about 1.2 GB", [["--only-binary", ":all:", *wanted]], []
    )
    loads = subprocess.run([str(python_path), "-c", "import bpy"], capture_output=True, text=True)
    if loads.returncode:
        missing = re.findall(r"(lib\S+\.so[.\d]*): cannot open shared object", loads.stderr)
        if missing:
            packages = " ".join(sorted(set(LINUX_PACKAGES.values())))
            stop(f"Blender needs {missing[0]}. On Debian and Ubuntu: sudo apt-get install {packages}")
        stop(f"Blender {release} does not start here:\n{loads.stderr.strip()}")
    return python_path


def lint() -> None:
    python = library_venv()
    run(python, "-m", "ruff", "check", ".")
    run(python, "-m", "ruff", "format", "--check", ".")
    run(python, "-m", "mypy")


def test_addon(release: str | None) -> None:
    """The add-on's tests: real Blender, real server, the extension installed from its zip."""
    library, blender = library_venv(), blender_venv(release)
    run(library, "build_addon.py")
    run(blender, "-m", "pytest", "tests/blender", env={"EX4D_PYTHON": str(library)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    setup = commands.add_parser("setup", help="install everything, run nothing")
    setup.add_argument("extras", nargs="*", metavar="EXTRA", help="stay installed: depth, wan, ray, train, judges...")
    commands.add_parser("lint", help="ruff and mypy")
    commands.add_parser("addon", help="build the extension zip")
    commands.add_parser("bench", help="measure speed")
    commands.add_parser("demo", help="the main job, end to end (arguments: see `dev.py demo --help`)", add_help=False)
    test = commands.add_parser("test", help="lint, type-check, test; what CI runs")
    test.add_argument("--blender", choices=[*BLENDERS, "all"], help="only the add-on's tests, in this Blender")
    options, rest = parser.parse_known_args()
    if rest and options.command != "demo":
        parser.error("unrecognised arguments: " + " ".join(rest))
    check_python()

    if options.command == "setup":
        add_extras(options.extras)
        library_venv()
        blender_venv()
    elif options.command == "lint":
        lint()
    elif options.command == "addon":
        run(library_venv(), "build_addon.py")
    elif options.command == "bench":
        bench()
    elif options.command == "demo":
        library = library_venv()
        needs_blender = not any(word in rest for word in ("--help", "-h")) and not any(
            word.split("=")[0] == "--blender" for word in rest
        )
        chosen = ["--blender", str(blender_venv())] if needs_blender else []
        run(library, "-m", "ex4d", "demo", *chosen, *rest)
    elif options.blender:
        for release in BLENDERS if options.blender == "all" else [options.blender]:
            test_addon(release)
    else:
        lint()
        run(library_venv(), "-m", "pytest")
        run(models_venv(), "-m", "pytest", "tests/depth_models", "tests/wan", *RAY_TESTS)
        test_addon(None)


if __name__ == "__main__":
    main()
