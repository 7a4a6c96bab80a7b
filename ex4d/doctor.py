# SPDX-License-Identifier: Apache-2.0
"""What this machine can do for a shot, and what to install where it cannot."""

import importlib
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

import psutil

from ex4d.models import MODELS, look

LEAST_FREE_DISK_GB = 5.0  # a 49-frame 1080p shot with lossless passes takes about 1.5 GB
LEAST_MEMORY_GB = 8.0  # the same shot in memory, with its depth and conditioning, takes about 2 GB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str
    cure: str = ""  # what to do when it is not ok
    required: bool = True  # False: only some work needs it


def examine() -> list[Finding]:
    """Look at everything that a take on this machine could need."""
    # The server is a package of its own that imports this one; what it looks at is found here.
    others = [finding for entry in entry_points(group="ex4d.findings") for finding in entry.load()()]
    return [*_packages(), _memory(), _disk(), _gpu(), _wan(), *_weights(), _blender(), *others]


def _packages() -> list[Finding]:
    findings = []
    for module, name, purpose in (
        ("av", "av", "reading and writing video"),
        ("cv2", "opencv-python-headless", "preview depth and fill"),
        ("OpenEXR", "openexr", "depth passes in EXR"),
        ("numba", "numba", "CPU rasteriser"),
        ("zmq", "pyzmq", "server"),
    ):
        try:
            importlib.import_module(module)
            findings.append(Finding(purpose, True, f"{name} {version(name)}"))
        except (ImportError, PackageNotFoundError) as error:
            findings.append(Finding(purpose, False, f"{name} does not load ({error})", f"pip install {name}"))
    try:
        from zmq import has

        encrypted = bool(has("curve"))
    except ImportError:
        encrypted = False
    cure = "Install pyzmq from the Python package index: its wheels bring encryption."
    findings.append(Finding("server encryption", encrypted, "CURVE" if encrypted else "none", cure))
    return findings


def _memory() -> Finding:
    total_gb = psutil.virtual_memory().total / 1e9
    cure = "Work with fewer frames at a time (--frames A:B) or smaller plates."
    return Finding("memory", total_gb >= LEAST_MEMORY_GB, f"{total_gb:.0f} GB", cure, required=False)


def _disk() -> Finding:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding(
        "free disk here",
        free_gb >= LEAST_FREE_DISK_GB,
        f"{free_gb:.0f} GB",
        "Make room or work on another disk.",
        False,
    )


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    names = ""
    if program:
        query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip().replace("\n", "; ")
    cure = "Fine for designing cameras with the preview engine. Painting with Wan2.1 needs an NVIDIA GPU."
    return Finding("GPU", bool(names), names or "none", cure, required=False)


def _wan() -> Finding:
    try:
        return Finding("Wan2.1 engine", True, f"diffsynth {version('diffsynth')}", required=False)
    except PackageNotFoundError:
        cure = "pip install 'ex4d[wan]' -c constraints.txt. Until then the preview engine fills the unseen part."
        return Finding("Wan2.1 engine", False, "not installed", cure, required=False)


def _weights() -> list[Finding]:
    findings = []
    for model in MODELS.values():
        found = look(model)
        text = {
            "complete": f"in {found.folder}",
            "partial": f"not complete in {found.folder}: {'; '.join(found.faults[:3])}",
            "missing": "not on this machine",
        }[found.state]
        cure = f"{model.command} ({model.size}; licence: {model.licence})"
        findings.append(Finding(f"weights {model.name}", found.state == "complete", text, cure, required=False))
    return findings


def _blender() -> Finding:
    program = shutil.which("blender")
    cure = "Install Blender 4.2 or newer, or let `python3 dev.py demo` fetch it as a Python module."
    return Finding("Blender on the PATH", program is not None, program or "none", cure, required=False)
