# SPDX-License-Identifier: Apache-2.0
"""`ex4d demo`: an artist's whole job once, with the real parts, from a clone of the repository.

It builds the extension, installs it into an empty Blender profile and runs `examples/reshoot.py` there, which presses
the panel's buttons and nothing else. The server is a process of its own, with a state folder of its own.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2

from ex4d.errors import InputError, MachineError
from ex4d.finish import contact_sheet
from ex4d.shot import read_shot
from ex4d.takes import read_take
from ex4d.video import read_video

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "examples" / "sample"


def run_demo(clip: Path | None, out: Path, blender: Path | None) -> int:
    """Do the whole job and leave shot.blend, result.mp4 and contact_sheet.png.

    Args:
        clip: the artist's plate; None for the sample, whose true depth is used.
        out: folder for what is made; what an earlier demo left there is replaced.
        blender: a Blender program, or a Python that has the bpy module; None looks for `.venv-blender`.
    """
    if not (ROOT / "build_addon.py").is_file():
        raise MachineError(
            "The demo runs from a clone of the repository: clone it and run `python3 dev.py demo` there."
        )
    if clip is not None and not clip.is_file():
        raise InputError(f"There is no file '{clip}'. Give --clip the path of a video file.")
    program = blender or _blender_module()
    started = time.monotonic()
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for leftover in ("ex4d", "shot.blend", "shot.blend1", "result.mp4", "contact_sheet.png"):
        _remove(out / leftover)

    with tempfile.TemporaryDirectory(prefix="ex4d-demo-", ignore_cleanup_errors=True) as scratch:
        package = _built_extension(Path(scratch))
        report = Path(scratch) / "report.json"
        environment = {
            **os.environ,
            "BLENDER_USER_RESOURCES": str(Path(scratch) / "blender"),
            "EX4D_HOME": str(Path(scratch) / "home"),
            "EX4D_CACHE": str(Path(scratch) / "cache"),
        }
        arguments = ["--extension", package, "--server", _server_program(), "--out", out, "--report", report]
        arguments += ["--clip", clip.resolve()] if clip else ["--sample", SAMPLE]
        try:
            _run_in_blender(program, ROOT / "examples" / "reshoot.py", [str(word) for word in arguments], environment)
        finally:
            subprocess.run(
                [sys.executable, "-m", "ex4d", "server", "stop"],
                env=environment,
                stdout=subprocess.DEVNULL,
                check=False,
            )
        told = json.loads(report.read_text(encoding="utf-8"))

    shot_folder, name = Path(told["shot"]), told["take"]
    shot, take_folder = read_shot(shot_folder), shot_folder / "takes" / name
    take = read_take(shot_folder, name)
    result = read_video(take_folder / "result.mkv").frames
    sheet = contact_sheet(
        shot.frames, read_video(take_folder / "color.mkv").frames, read_video(take_folder / "mask.mkv").frames, result
    )
    cv2.imwrite(str(out / "contact_sheet.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    shutil.copyfile(take_folder / "result.mp4", out / "result.mp4")

    count, height, width = shot.frames.shape[:3]
    print(f"\nPlate    {clip or 'the sample'}: {count} frames, {width}x{height}, {shot.fps} fps")
    print(f"Depth    {shot.depth_info.source} ({shot.depth_info.licence})")
    print(f"Render   {take.raster} rasteriser, {take.engine} engine, seed {take.seed}")
    print(f"Blender  {told['blender']}, on {platform.platform(terse=True)} with {os.cpu_count()} cores")
    for notice in (*shot.notices, *take.notices):
        print(f"Notice   {notice}")
    print()
    for step in told["steps"]:
        print(f"{step['seconds']:7.1f} s  {step['name']}")
    print(f"{time.monotonic() - started:7.1f} s  in all\n")
    for made in ("shot.blend", "result.mp4", "contact_sheet.png"):
        print(f"{out / made}")
    return 0


def _blender_module() -> Path:
    """The Python of `.venv-blender`, which `dev.py` makes."""
    folder = ROOT / ".venv-blender"
    for path in (folder / "bin" / "python", folder / "Scripts" / "python.exe"):
        if path.is_file():
            return path
    raise MachineError(
        "The demo needs Blender: run `python3 dev.py demo`, which fetches it as a Python module "
        "(Python 3.11 or 3.13), or name an installed one with --blender PATH."
    )


def _server_program() -> Path:
    """The installed `ex4d` script: what an artist would name in the extension's preferences."""
    script = Path(sys.executable).with_name("ex4d.exe" if os.name == "nt" else "ex4d")
    if not script.is_file():
        raise MachineError(f"There is no '{script}'. Install the package into this Python: pip install -e {ROOT}")
    return script


def _built_extension(scratch: Path) -> Path:
    print("Building the extension", flush=True)
    subprocess.run([sys.executable, str(ROOT / "build_addon.py"), "--out", str(scratch)], check=True)
    return next(scratch.glob("ex4d_reshoot-*.zip"))


def _run_in_blender(program: Path, script: Path, arguments: list[str], environment: dict[str, str]) -> None:
    """Run a script in a Blender or in a Python with the bpy module; its output goes to the terminal."""
    if "python" in program.name.lower():
        command = [str(program), str(script), "--", *arguments]
    else:
        command = [str(program), "--background", "--factory-startup", "--python", str(script), "--", *arguments]
    try:
        result = subprocess.run(command, env=environment, check=False)
    except OSError as error:
        raise MachineError(
            f"Blender '{program}' cannot be started ({error}). Give --blender the path of its program."
        ) from error
    if result.returncode:
        raise MachineError(f"The job stopped in Blender (exit code {result.returncode}); the lines above say why.")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
