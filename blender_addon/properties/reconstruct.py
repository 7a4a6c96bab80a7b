# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 2: the scene that is made from the plate."""

import bpy
from bpy.props import (
    BoolProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from ..compat import BLEND_RELATIVE_PATH

DEPTH_ITEMS = [
    ("auto", "Best Available", "The best depth source the server has; the panel says which one it was"),
    ("preview", "Preview Relief", "A smooth relief without any depth model: learn the workflow, design cameras"),
    (
        "file",
        "Depth File",
        ("Depth rendered or estimated elsewhere: EXR, 16-bit PNG, 16-bit movie or numpy arrays"),
    ),
    (
        "blender",
        "Blender Z Pass",
        "The Z pass of a CG scene, in the scene's units: OpenEXR files as Blender renders them",
    ),
    (
        "tracked",
        "Tracked Camera",
        (
            "Measured from the plate's own camera motion, in the solve's unit: solve the camera in a Movie Clip editor "
            "first. For plates whose camera travels past things that stand still; no weights. Needs on the server's "
            "machine the packages of ex4d[depth]"
        ),
    ),
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
READ_FROM_FILE = {"file", "blender"}
PRIOR_ITEMS = [
    ("NONE", "Surroundings", "From what lies around it, the farther side first"),
    *(item for item in DEPTH_ITEMS if item[0] in {"preview", "transformers", "depthcrafter"}),
]
DEPTH_KIND_ITEMS = [
    ("z", "Z Depth", "Distance along the camera's view axis"),
    ("ray", "Ray Length", "Distance from the camera along each ray"),
    ("disparity", "Disparity", "Near is large; scale and offset unknown"),
    ("inverse", "Inverse Depth", "One divided by Z depth"),
]


def _ask_again(state, context):
    """A licence was accepted for the depth source chosen before."""
    state.property_unset("accept_licence")


class ReconstructProperties:
    asked_frames: IntProperty(name="Asked Frames", description="How many frames the last reconstruction was asked for")
    use_scene_range: BoolProperty(
        name="Scene Range Only",
        description=(
            "Reconstruct only the frames from the scene's start to its end, with handles: for long plates, whose mesh "
            "would be large"
        ),
    )
    handles: IntProperty(
        name="Handles",
        description=(
            "Frames before and after the scene's range that are reconstructed too, as far as the plate goes, so that "
            "the cut can still be moved"
        ),
        min=0,
        soft_max=48,
    )
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
    use_solve: BoolProperty(
        name="Solved Camera",
        description=(
            "The plate's camera moves as its movie clip was solved: lens, motion and scale come from the solve, and "
            "what stood still stands still in the world. Off: the plate's camera is taken to stand still"
        ),
        default=True,
    )
    tracked_prior: EnumProperty(
        name="Fill From",
        description="Where the camera's motion tells nothing (what moves, is plain or mirrors): take the depth from",
        items=PRIOR_ITEMS,
        update=_ask_again,
    )
    depth_near: FloatProperty(
        name="Near",
        description=(
            "Distance of the nearest thing that stays in the picture, along the camera's view axis. 0: unknown"
        ),
        min=0,
        soft_max=1000,
        precision=2,
    )
    depth_far: FloatProperty(
        name="Far",
        description="Distance of the farthest thing before the sky, along the camera's view axis. 0: unknown",
        min=0,
        soft_max=10_000,
        precision=2,
    )
    known_distance: FloatProperty(
        name="Known Distance",
        description=(
            "Measured distance of one thing in the plate's first frame, along the camera's view axis; with Far it "
            "fixes the scale of the depth. 0: unknown"
        ),
        min=0,
        soft_max=1000,
        precision=2,
    )
    known_at: FloatVectorProperty(
        name="Measured At",
        description="Where in the plate's first frame that thing is: from the left and from the bottom, as a share",
        size=2,
        default=(0.5, 0.5),
        min=0,
        max=1,
        subtype="XYZ",
    )
    is_reconstructed: BoolProperty(name="Reconstructed")
    depth_notice: StringProperty(name="Depth Used")
    licence_notice: StringProperty(name="Licence")
    shot_notice: StringProperty(name="Shot Notice", description="A line for each fact")
    shot_image: PointerProperty(type=bpy.types.Image, name="Shot Plate")
    mesh: PointerProperty(type=bpy.types.Object, name="DW-Mesh")
