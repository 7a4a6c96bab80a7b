# SPDX-License-Identifier: Apache-2.0
"""What the next take will need, beside the button that sends it."""

from importlib import import_module

import bpy
import pytest
from conftest import FRAMES, HEIGHT, PACKAGE, WIDTH
from drawing import draw_panels

GIB = 2**30


@pytest.fixture
def estimate(addon):
    """The protocol's answer with some fields set."""
    return import_module(f"{PACKAGE}.shared_protocol.messages").Estimate


def needs(addon):
    assert addon.session.wait(10)
    return " ".join(text for text, _ in addon.estimates.said(bpy.context.scene))


def test_a_measured_time_and_the_planned_memory_stand_beside_the_button(addon, fake, reconstructed, estimate):
    fake.estimated = estimate(
        "wan", 41.4, 3, 40.0, "NVIDIA H200", 1, "NVIDIA L40S", 48 * GIB, 2 * GIB, 38 * GIB, 4 * GIB
    )
    addon.estimates.forget()
    said = needs(addon)
    assert "About 41 s, from the last 3 takes with these settings on this server." in said
    assert "Wan2.1 + EX-4D: 38 of 48 GB GPU memory (NVIDIA L40S)." in said
    drawn = " ".join(draw_panels(addon))
    assert drawn.index("ex4d.render_take") < drawn.index("About 41 s") < drawn.index("38 of 48 GB")


def test_what_was_never_measured_is_said_in_words(addon, fake, reconstructed, estimate):
    fake.estimated = estimate("preview")
    addon.estimates.forget()
    assert needs(addon) == "No take with these settings was measured on this server yet. Preview Fill: no GPU memory."
    fake.estimated = estimate(
        "wan", None, 0, 81.2, "NVIDIA H200", 2, "NVIDIA L40S", 48 * GIB, 40 * GIB, 38 * GIB, ahead=2
    )
    addon.estimates.forget()
    said = needs(addon)
    assert "yet. An NVIDIA H200 takes about 81 s, in 2 windows, once its model is loaded. 2 jobs come first." in said
    assert "of which 40 are in use now" in said


def test_memory_of_machines_that_nobody_asked_is_not_made_up(addon, fake, reconstructed, estimate):
    fake.estimated = estimate("auto", 12.0, 2)
    addon.estimates.forget()
    assert needs(addon).endswith("Best Available: memory is not known here.")


def test_what_cannot_be_painted_is_said_before_it_is_sent(addon, fake, reconstructed, estimate):
    fake.estimated = estimate("wan", refusal="Painting 81 frames needs at least 13 GB. What would fit: 17 frames.")
    addon.estimates.forget()
    addon.session.wait(10)
    assert addon.estimates.said(bpy.context.scene) == [(fake.estimated.refusal, "ERROR")]


def test_it_is_asked_again_only_when_settings_change(addon, fake, reconstructed, scene, estimate):
    fake.estimated = estimate("preview", 2.0, 1)
    addon.estimates.forget()
    needs(addon)
    asked = len(fake.asked)
    for _ in range(20):
        addon.session.drain()
    assert len(fake.asked) == asked
    makes, params = fake.asked[-1]
    assert (makes.width, makes.height, makes.count) == (WIDTH, HEIGHT, FRAMES)
    assert params == {"engine": "auto", "seed": 0}
    for change in (
        lambda: setattr(reconstructed, "quality", "draft"),
        lambda: setattr(scene, "frame_end", 3),
        lambda: setattr(scene.render, "resolution_percentage", 50),
    ):
        change()
        assert "Asking" in " ".join(text for text, _ in addon.estimates.said(scene)), "the old answer is old"
        addon.session.drain()
        assert len(fake.asked) == asked + 1
        asked += 1
        needs(addon)
    assert fake.asked[-1][0].count == 3
    assert fake.asked[-1][1]["quality"] == "draft"


def test_an_older_server_is_told_from_one_without_measurements(addon, fake, reconstructed):
    addon.estimates.forget()
    assert "update it" in needs(addon)
    assert addon.session.current.error == ""


def test_without_a_server_nothing_is_said(addon, fake, reconstructed):
    addon.session.current.is_connected = False
    assert addon.estimates.said(bpy.context.scene) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (41.4, "41 s"), (89.9, "90 s"), (120, "2 min"), (9000, "2.5 h")]
)
def test_lengths_of_time_are_told_as_one_says_them(addon, seconds, text):
    assert addon.estimates.duration(seconds) == text
