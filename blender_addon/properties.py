# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene remembers about its shot: one PropertyGroup, `scene.ex4d`."""

import bpy
from bpy.props import (
    BoolProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)
from bpy.types import PropertyGroup

from .compat import BLEND_RELATIVE_PATH

DEPTH_ITEMS = [
    ("auto", "Best Available", "The best depth source the server has; the panel says which one it was"),
    ("preview", "Preview Relief", "A smooth relief without any depth model: learn the workflow, design cameras"),
    ("file", "Depth File", "Depth rendered or estimated elsewhere: EXR, 16-bit PNG, 16-bit movie or numpy arrays"),
    (
        "transformers",
        "Depth Anything V2 Small",
        (
            "A model looks at each frame by itself, then the flicker is taken out. Needs on the server's machine the "
            "packages of ex4d[depth] and 0.1 GB of weights; a GPU makes it quick. Its licence allows paid work"
        ),
    ),
    (
        "depthcrafter",
        "DepthCrafter (Research Only)",
        (
            "A video model, steady over time, as in the EX-4D release. Needs on the server's machine the packages of "
            "ex4d[depth], 4.6 GB of weights and in practice a GPU. Its licence forbids paid work"
        ),
    ),
]
RESEARCH_ONLY = {"depthcrafter"}
DEPTH_KIND_ITEMS = [
    ("z", "Z Depth", "Distance along the camera's view axis"),
    ("ray", "Ray Length", "Distance from the camera along each ray"),
    ("disparity", "Disparity", "Near is large; scale and offset unknown"),
    ("inverse", "Inverse Depth", "One divided by Z depth"),
]
STRIDE_ITEMS = [
    ("FULL", "Full", "Every pixel is a vertex: for stills and renders"),
    ("HALF", "Half", "Every second row and column: for playback"),
    ("QUARTER", "Quarter", "Every fourth row and column: for large plates"),
]


def _ask_again(state, context):
    """A licence was accepted for the depth source chosen before."""
    state.property_unset("accept_licence")


class EX4D_SceneState(PropertyGroup):
    """The shot of this scene. Empty until a plate is imported."""

    shot_name: StringProperty(name="Shot")
    shot_id: StringProperty(name="Shot ID", description="Finds this scene again when a job's result arrives")
    root: PointerProperty(type=bpy.types.Object, name="Shot Empty")
    source_camera: PointerProperty(type=bpy.types.Object, name="Source Camera")
    plate_plane: PointerProperty(type=bpy.types.Object, name="Plate Plane")
    plate_clip: PointerProperty(type=bpy.types.MovieClip, name="Plate")
    plate_width: IntProperty(name="Plate Width")
    plate_height: IntProperty(name="Plate Height")
    plate_fps: FloatProperty(name="Plate Frame Rate")
    plate_start: IntProperty(name="First Frame", description="Scene frame that shows the plate's first frame")
    plate_frames: IntProperty(name="Plate Length")
    plate_notice: StringProperty(name="Plate Notice", description="What the import set, a line for each fact")

    depth_source: EnumProperty(
        name="Depth", description="Where the plate's depth comes from", items=DEPTH_ITEMS, update=_ask_again
    )
    accept_licence: BoolProperty(
        name="Accept Licence",
        description="Accept the depth model's licence; research-only models may not be used for paid work",
    )
    depth_file: StringProperty(
        name="Depth File",
        description=(
            "One depth map for each of the plate's frames, of the plate's size: EXR or 16-bit PNG (choose any one of a "
            "numbered sequence), a 16-bit grey .mkv, .npz or .npy"
        ),
        subtype="FILE_PATH",
        options=BLEND_RELATIVE_PATH,
    )
    depth_kind: EnumProperty(
        name="Kind",
        description="What the depth file's numbers mean, unless the file or the .json beside it says so itself",
        items=DEPTH_KIND_ITEMS,
    )

    is_reconstructed: BoolProperty(name="Reconstructed")
    depth_notice: StringProperty(name="Depth Used")
    licence_notice: StringProperty(name="Licence")
    shot_notice: StringProperty(name="Shot Notice", description="A line for each fact")
    shot_image: PointerProperty(type=bpy.types.Image, name="Shot Plate")
    mesh: PointerProperty(type=bpy.types.Object, name="DW-Mesh")
    mesh_stride: EnumProperty(
        name="Detail",
        description="Of the mesh in Blender; takes always use every pixel",
        items=STRIDE_ITEMS,
        default="HALF",
    )

    coverage_check: StringProperty(
        name="Coverage Check", description="Of the scene's camera: which frames, then what they ask for"
    )
    take_name: StringProperty(name="Take", description="Name of the next take and of its folder", default="take_01")
    seed: IntProperty(name="Seed", description="The same seed paints the unseen part the same way", min=0)
    last_take: StringProperty(name="Last Take")
    take_coverage: StringProperty(name="Coverage")
    take_notice: StringProperty(name="Take Notice", description="A line for each fact")


CLASSES = (EX4D_SceneState,)


def register():
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.ex4d = PointerProperty(type=EX4D_SceneState)


def unregister():
    del bpy.types.Scene.ex4d
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
