# SPDX-License-Identifier: Apache-2.0
"""The panels draw in every state, with icons, properties and operators that this Blender has."""

import bpy
import pytest

ICONS = {item.identifier for item in bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items}


class Layout:
    """Takes what a panel draws, and refuses what Blender's own layout would refuse. Without a window none exists."""

    def __init__(self, drawn):
        self.drawn = drawn

    def _nested(self, **options):
        return Layout(self.drawn)

    column = row = box = _nested

    def label(self, text="", icon="NONE"):
        assert icon in ICONS
        self.drawn.append(text)

    def prop(self, data, name, text="", icon="NONE"):
        assert name in data.bl_rna.properties or data.path_resolve(name) is not None
        assert icon in ICONS

    def operator(self, idname, text="", icon="NONE"):
        module, name = idname.split(".")
        getattr(getattr(bpy.ops, module), name).get_rna_type()  # raises for an unknown one
        assert icon in ICONS
        self.drawn.append(text or idname)

    def progress(self, factor, text, **options):
        assert options == {"type": "BAR"}
        assert 0 <= factor <= 1
        self.drawn.append(text)


class Context:
    """bpy.context with a sidebar."""

    class region:
        width = 280

    def __getattr__(self, name):
        return getattr(bpy.context, name)


@pytest.fixture
def drawn(addon):
    """A function that draws all panels and returns their texts."""

    def draw():
        texts = []
        for cls in addon.panels.CLASSES:
            panel = type("Panel", (), {"layout": Layout(texts)})()
            if not hasattr(cls, "poll") or cls.poll(Context()):
                cls.draw(panel, Context())
        return texts

    return draw


def test_an_empty_scene_offers_the_first_step(drawn, scene):
    assert "ex4d.import_plate" in drawn()


def test_every_state_of_the_job_can_be_drawn(addon, drawn, fake, imported, scene):
    assert any("12 x 8, 5 frames, 24 fps" in text for text in drawn())
    assert "The lens is a guess" in " ".join(drawn())
    bpy.ops.ex4d.reconstruct()
    addon.session.drain()
    assert "Cancel" in drawn()
    assert "Reconstruction" in drawn()
    while addon.session.drain():
        drawn()
    said = " ".join(drawn())
    assert "preview relief: no depth model" in said
    assert "Licence: Apache-2.0" in said
    bpy.ops.ex4d.render_take()
    while addon.session.drain():
        drawn()
    said = " ".join(drawn())
    assert "take_01 is in the sequencer" in said
    assert "does not show 10% of the picture" in said


def test_long_texts_are_broken_between_words(addon):
    def fits(line):
        return len(line) <= 12

    assert addon.panels.lines_of("a word and an unbreakablelongword end", fits) == [
        "a word and",
        "an",
        "unbreakablelongword",
        "end",
    ]
    assert addon.panels.lines_of("", fits) == [""]


def test_a_sentence_says_why_a_button_is_grey(addon, fake, imported):
    context = bpy.context
    grey = addon.operators.grey
    assert grey.no_shot(context) is None
    assert grey.no_reconstruction(context) == "Reconstruct the shot first"
    bpy.data.objects.remove(imported.root)
    assert "Empty was deleted" in grey.no_shot(context)
    bpy.context.scene.ex4d.shot_id = ""
    assert grey.no_shot(context) == "Import a plate first"
    addon.session.current.is_connected = False
    assert grey.no_server(context) == "Connect to the server first"
