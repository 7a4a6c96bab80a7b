# SPDX-License-Identifier: Apache-2.0
"""Drawing the panels without a window, and what a sidebar's layout would refuse."""

import bpy

ICONS = {item.identifier for item in bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items}


class Options:
    """Takes an operator's properties, those that it has."""

    def __init__(self, properties):
        self.__dict__["known"] = properties

    def __setattr__(self, name, value):
        assert name in self.known
        self.__dict__[name] = value


class Layout:
    """Takes what a panel draws, and refuses what Blender's own layout would refuse. Without a window none exists."""

    def __init__(self, drawn, operator_context="INVOKE_REGION_WIN"):
        self.drawn, self.operator_context = drawn, operator_context

    def _nested(self, **options):
        return Layout(self.drawn, self.operator_context)

    column = row = box = split = _nested

    def label(self, text="", icon="NONE", translate=True):
        assert icon in ICONS
        self.drawn.append(text)

    def prop(self, data, name, text="", icon="NONE", placeholder=""):
        assert name in data.bl_rna.properties or data.path_resolve(name) is not None
        assert icon in ICONS
        assert name not in data.bl_rna.properties or data.bl_rna.properties[name].description, f"{name} has no tooltip"
        self.drawn.append(text or name)

    def operator_menu_enum(self, idname, name, text="", icon="NONE"):
        module, operator = idname.split(".")
        assert name in getattr(getattr(bpy.ops, module), operator).get_rna_type().properties
        assert icon in ICONS
        self.drawn.append(text or idname)

    def panel(self, idname, default_closed):
        self.drawn.append(idname)
        return Layout(self.drawn), Layout(self.drawn)

    def template_list(self, cls, list_id, data, name, active_data, active_name, rows):
        assert issubclass(getattr(bpy.types, cls), bpy.types.UIList)
        assert active_name in active_data.bl_rna.properties
        for item in getattr(data, name):
            getattr(bpy.types, cls).draw_item(None, Context(), self, data, item, 0, active_data, active_name, 0)

    def template_icon(self, icon_value, scale):
        self.drawn.append("picture")

    def separator(self):
        pass

    def operator(self, idname, text="", icon="NONE", translate=True, depress=False, emboss=True):
        module, name = idname.split(".")
        known = getattr(getattr(bpy.ops, module), name).get_rna_type()  # raises for an unknown one
        assert known.description or idname.startswith("wm."), f"{idname} has no tooltip"
        assert icon in ICONS
        asks = hasattr(getattr(bpy.types, f"{module.upper()}_OT_{name}", None), "invoke")
        assert not asks or self.operator_context.startswith("INVOKE"), f"{idname} would not ask"
        self.drawn.append(text or idname)
        return Options(known.properties)

    def progress(self, factor, text, **options):
        assert options == {"type": "BAR"}
        assert 0 <= factor <= 1
        self.drawn.append(text)


class Context:
    """bpy.context with a sidebar."""

    class region:
        width = 280

    screen = area = None

    def __getattr__(self, name):
        return getattr(bpy.context, name)


def draw_panels(addon):
    """Draw all panels; return their texts."""
    texts = []
    for cls in addon.panels.CLASSES:
        if not issubclass(cls, bpy.types.Panel) or not getattr(cls, "poll", lambda context: True)(Context()):
            continue
        parts = {name: getattr(cls, name) for name in dir(cls) if name.startswith("draw_")}
        panel = type("Panel", (), {"layout": Layout(texts), **parts})()
        cls.draw(panel, Context())
    return texts


def draw_menu(cls):
    """Draw a menu that a timer opens, whose operators then do not ask by themselves; return its texts."""
    texts = []
    cls.draw(type("Menu", (), {"layout": Layout(texts, "EXEC_REGION_WIN")})(), Context())
    return texts
