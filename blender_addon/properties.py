# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene remembers about its shot: one PropertyGroup, `scene.ex4d`."""

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)
from bpy.types import PropertyGroup

from . import coverage_strip, painting
from .compat import BLEND_RELATIVE_PATH

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
STRIDE_ITEMS = [
    ("FULL", "Full", "Every pixel is a vertex: for stills and renders"),
    ("HALF", "Half", "Every second row and column: for playback"),
    ("QUARTER", "Quarter", "Every fourth row and column: for large plates"),
]


def _ask_again(state, context):
    """A licence was accepted for the depth source chosen before."""
    state.property_unset("accept_licence")


def _look_again(state, context):
    coverage_strip.touch()


class EX4D_ListedTake(PropertyGroup):
    """One line of the list of takes; `name` is the take's."""

    summary: StringProperty(name="Summary", description="What painted the take, and how much of it")
    notes: StringProperty(name="Notes", description="Your own words about this take; they stay in this file")


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
    film_start: IntProperty(name="File's First Frame", description="Scene frame that shows the file's first frame")
    film_frames: IntProperty(name="File Length")
    plate_start: IntProperty(name="First Frame", description="Scene frame that shows the first frame used")
    plate_frames: IntProperty(name="Plate Length", description="How many frames are used")
    asked_frames: IntProperty(name="Asked Frames", description="How many frames the last reconstruction was asked for")
    use_scene_range: BoolProperty(
        name="Scene Range Only",
        description=(
            "Reconstruct only the frames from the scene's start to its end: for long plates, whose mesh would be "
            "large. Leave some frames before and after the cut as handles"
        ),
    )
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
    mesh_stride: EnumProperty(
        name="Detail",
        description="Of the mesh in Blender; takes always use every pixel",
        items=STRIDE_ITEMS,
        default="HALF",
    )

    subject_distance: FloatProperty(
        name="Subject Distance", description="Of the first frame's middle, in shot units; camera moves turn round it"
    )

    move_target: PointerProperty(
        type=bpy.types.Object,
        name="Subject",
        description="What camera moves turn round and keep in view. Empty: what stands in the middle of the plate",
    )

    coverage_check: StringProperty(
        name="Coverage Check", description="Of the scene's camera: which frames, then what they ask for"
    )
    use_coverage_strip: BoolProperty(
        name="Coverage Strip",
        description=(
            "Show in the timeline, while the camera is edited, how much of each picture the plate never saw: green is "
            "little, red is most. An estimate; Check Coverage measures"
        ),
        default=True,
        update=_look_again,
    )
    take_name: StringProperty(name="Take", description="Name of the next take and of its folder", default="take_01")
    engine: EnumProperty(
        name="Engine",
        description="What paints the part that the plate never saw",
        items=painting.ENGINE_ITEMS,
        default=painting.DEFAULT_ENGINE,
    )
    quality: EnumProperty(
        name="Quality",
        description="How much of the model's care is given up for speed",
        items=painting.QUALITY_ITEMS,
        default=painting.DEFAULT_QUALITY,
    )
    use_steps: BoolProperty(name="Own Steps", description="Off: as many steps as the quality has")
    steps: IntProperty(
        name="Steps",
        description="How often the model refines the picture: time grows with it, and detail up to about 25",
        min=1,
        max=painting.MAX_STEPS,
        soft_max=50,
        default=painting.DEFAULT_STEPS,
    )
    use_erosion: BoolProperty(
        name="Own Mask Erosion", description="Off: 5 pixels, or in Reference the release's random 2 to 8"
    )
    erosion_px: IntProperty(
        name="Mask Erosion",
        description=(
            "By how many pixels the plate gives way at the edge of the unseen part: more hides the seam and stray edge "
            "pixels, less keeps fine detail"
        ),
        min=0,
        max=painting.MAX_EROSION_PX,
        soft_max=16,
        default=painting.DEFAULT_EROSION_PX,
    )
    prompt: StringProperty(
        name="Prompt",
        description=(
            "What the whole picture shows, with what comes into view: 'a narrow street, brick houses on both sides'. "
            "Empty: the EX-4D release's own words"
        ),
    )
    negative_prompt: StringProperty(
        name="Negative Prompt", description="What must not appear. Empty: the EX-4D release's own words"
    )
    seed: IntProperty(
        name="Seed",
        description="The same seed paints the unseen part the same way; another one paints another version",
        min=0,
    )
    takes: CollectionProperty(type=EX4D_ListedTake, name="Takes")
    active_take: IntProperty(name="Active Take")
    last_take: StringProperty(name="Last Take")
    take_coverage: StringProperty(name="Coverage")
    take_notice: StringProperty(name="Take Notice", description="A line for each fact")


CLASSES = (EX4D_ListedTake, EX4D_SceneState)


def register():
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.ex4d = PointerProperty(type=EX4D_SceneState)


def unregister():
    del bpy.types.Scene.ex4d
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
