# SPDX-License-Identifier: Apache-2.0
"""An artist's whole job as a script: presses the extension's buttons inside Blender, and nothing else.

`ex4d demo` runs it. By itself: a Python with the bpy module, or `blender --background --python examples/reshoot.py`,
followed by `-- --extension ZIP --server EX4D --out DIR --report FILE (--sample FOLDER | --clip FILE)`.
"""

import argparse
import json
import math
import os
import sys
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import bpy

PACKAGE = "bl_ext.user_default.ex4d_reshoot"
ORBIT_DEG = 18.0  # far enough to look behind things; a preview relief holds up to about 20 degrees
RISE_DEG = 4.0
PATIENCE_S = 600.0
steps: list[dict] = []


@contextmanager
def step(name):
    print(f"{name} ...", flush=True)
    start = time.monotonic()
    yield
    steps.append({"name": name, "seconds": time.monotonic() - start})


def press(button, **properties):
    """Press a button; what it says when it cannot is the artist's to read."""
    try:
        outcome = button(**properties)
    except RuntimeError as error:
        sys.exit(f"{error}".strip())
    if outcome != {"FINISHED"}:
        sys.exit(f"{button.idname_py()} ended with {outcome}")


def wait():
    """Wait as an artist does: until the panel shows no more work. Without a window no timer looks for news."""
    session = import_module(f"{PACKAGE}.session")
    stage, deadline = "", time.monotonic() + PATIENCE_S
    while session.drain():
        job = session.current.job
        if job is not None and job.stage != stage:
            stage = job.stage
            print(f"    {stage}", flush=True)
        if time.monotonic() > deadline:
            sys.exit(f"No end after {PATIENCE_S:.0f} s, last stage: {stage}")
        time.sleep(0.02)
    if session.current.error:
        sys.exit(session.current.error)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--extension", type=Path, required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    plate = parser.add_mutually_exclusive_group(required=True)
    plate.add_argument("--sample", type=Path)
    plate.add_argument("--clip", type=Path)
    options = parser.parse_args(sys.argv[sys.argv.index("--") + 1 :])

    with step("Install the extension"):
        package = str(options.extension)
        press(bpy.ops.extensions.package_install_files, repo="user_default", filepath=package, enable_on_install=True)
        bpy.ops.wm.read_homefile(use_empty=True)
        bpy.context.preferences.addons[PACKAGE].preferences.server_command = options.server
        bpy.ops.wm.save_as_mainfile(filepath=str(options.out / "shot.blend"))
    scene = bpy.context.scene
    state = scene.ex4d
    with step("Import the plate"):
        press(bpy.ops.ex4d.import_plate, filepath=str(options.clip or options.sample / "plate.mp4"))
        wait()
    if options.sample:
        lens = json.loads((options.sample / "camera.json").read_text(encoding="utf-8"))
        state.source_camera.data.lens = lens["lens_mm"]
        state.source_camera.data.sensor_width = lens["sensor_width_mm"]
        state.depth_source, state.depth_kind = "file", "inverse"
        state.depth_file = str(options.sample / "depth.mkv")
    with step("Start the server"):
        press(bpy.ops.ex4d.connect_server)
        wait()
    with step("Reconstruct"):
        press(bpy.ops.ex4d.reconstruct)
        wait()
    shot = Path(bpy.path.abspath(state.shot_image.filepath)).parent
    with step("Add and key a camera"):
        press(bpy.ops.ex4d.add_camera)
        orbit = {"angle": math.radians(ORBIT_DEG), "rise": math.radians(RISE_DEG)}
        press(bpy.ops.ex4d.add_move, move="ORBIT", **orbit)
    with step("Render the take"):
        press(bpy.ops.ex4d.render_take)
        wait()
    with step("Save"):
        bpy.ops.wm.save_mainfile()

    told = {"blender": f"Blender {bpy.app.version_string}", "shot": str(shot), "take": state.last_take, "steps": steps}
    options.report.write_text(json.dumps(told), encoding="utf-8")
    import_module(f"{PACKAGE}.session").close()
    sys.stdout.flush()
    os._exit(0)  # some bpy modules crash in their own exit


if __name__ == "__main__":
    main()
