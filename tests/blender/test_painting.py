# SPDX-License-Identifier: Apache-2.0
"""How a take is painted: the settings, what is sent of them, and the picture while it is painted."""

import json
import os
import subprocess
from importlib import import_module
from pathlib import Path

import bpy
import pytest
from conftest import PACKAGE, REPOSITORY

PYTHON = Path(os.environ.get("EX4D_PYTHON", REPOSITORY / ".venv" / "bin" / "python"))
ASK_LIBRARY = """
import json
from ex4d.depth import SOURCES
from ex4d.generation import ENGINES, options
from ex4d.generation.wan.modes import MODES
modes = {name: [mode.label, mode.help, mode.steps] for name, mode in MODES.items()}
usual = options.GenerateOptions()
limits = [options.MAX_STEPS, options.MAX_EROSION_PX, usual.engine, usual.quality]
print(json.dumps({"modes": modes, "limits": limits, "sources": list(SOURCES), "engines": list(ENGINES)}))
"""


@pytest.fixture(scope="module")
def library():
    """What the library offers, asked of its own Python: the extension may not import it."""
    asked = subprocess.run([PYTHON, "-c", ASK_LIBRARY], cwd=REPOSITORY, check=True, timeout=60, capture_output=True)
    return json.loads(asked.stdout)


def test_the_panel_offers_what_the_library_has(addon, library):
    painting, properties = addon.painting, addon.properties
    offered = {name: [label, help_text] for name, label, help_text in painting.QUALITY_ITEMS}
    assert offered == {name: [label, text.rstrip(".")] for name, (label, text, _) in library["modes"].items()}
    assert library["limits"] == [
        painting.MAX_STEPS,
        painting.MAX_EROSION_PX,
        painting.DEFAULT_ENGINE,
        painting.DEFAULT_QUALITY,
    ]
    assert library["modes"][painting.DEFAULT_QUALITY][2] == painting.DEFAULT_STEPS
    assert {name for name, *_ in painting.ENGINE_ITEMS} == {"auto", *library["engines"]}
    assert {name for name, *_ in properties.reconstruct.DEPTH_ITEMS} == {"auto", *library["sources"]}


def test_settings_left_alone_are_not_sent(addon, scene):
    assert addon.painting.params_of(scene.ex4d) == {"engine": "auto", "seed": 0}


def test_settings_are_sent_under_their_names(addon, fake, reconstructed):
    state = reconstructed
    state.engine, state.quality, state.seed = "wan", "draft", 7
    state.use_steps, state.steps = True, 4
    state.use_erosion, state.erosion_px = True, 0
    state.prompt, state.negative_prompt = " a quiet street ", "people"
    bpy.ops.ex4d.render_take()
    addon.session.drain()
    assert fake.submitted[-1][2] == {
        "name": "take_01",
        "raster": "auto",
        "engine": "wan",
        "quality": "draft",
        "seed": 7,
        "steps": 4,
        "erosion_px": 0,
        "prompt": "a quiet street",
        "negative_prompt": "people",
    }


def test_the_classical_fill_is_told_nothing_of_the_model(addon, scene):
    scene.ex4d.engine, scene.ex4d.quality, scene.ex4d.prompt = "preview", "draft", "a street"
    assert addon.painting.params_of(scene.ex4d) == {"engine": "preview", "seed": 0}


@pytest.fixture
def picture(tmp_path):
    """JPEG bytes of a red picture, 32 x 18."""
    image = bpy.data.images.new("red", 32, 18)
    image.pixels.foreach_set([1.0, 0.0, 0.0, 1.0] * (32 * 18))
    image.filepath_raw, image.file_format = str(tmp_path / "red.jpg"), "JPEG"
    image.save()
    bpy.data.images.remove(image)
    return (tmp_path / "red.jpg").read_bytes()


def test_a_picture_shows_while_the_job_runs_and_leaves_nothing(addon, fake, reconstructed, picture):
    events = import_module(f"{PACKAGE}.shared_protocol.events")
    images = len(bpy.data.images)
    bpy.ops.ex4d.render_take()
    addon.session.drain()  # the camera is written
    job_id = fake.submitted[-1][0]
    fake._steps.appendleft(lambda: events.JobProgress(job_id, "Painting", 1, 25, preview=picture))
    addon.session.drain()
    icon = addon.job_picture._icons[addon.job_picture.NAME]
    assert tuple(icon.image_size) == (32, 18)
    assert icon.image_pixels_float[0] > 0.9
    assert icon.image_pixels_float[1] < 0.1
    assert len(bpy.data.images) == images
    addon.session.drain()
    assert addon.job_picture.icon_id() is not None, "words do not replace the picture"
    assert addon.session.wait(10)
    assert addon.job_picture.icon_id() is None


def test_a_damaged_picture_is_left_out(addon, picture):
    images = len(bpy.data.images)
    for data in (b"no picture", b"", picture[:40]):
        addon.job_picture.show(data)
        assert addon.job_picture.icon_id() is None
    assert len(bpy.data.images) == images
