# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 5: the next take, before it is sent; and how any take is painted."""

from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty

from .. import painting


class PaintingProperties:
    """Of the next take, and of each one that is planned."""

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
    use_depth_pass: BoolProperty(
        name="Depth Pass",
        description=(
            "Also bring the depth of the new view, as 32-bit OpenEXR pictures in shot units: about 2 MB for each "
            "picture of a million pixels. Where the take was painted it is a guess"
        ),
    )
    use_clean_plate: BoolProperty(
        name="Clean Plate",
        description=(
            "Also bring what the plate shows of the background at any time, seen from the new camera: without what "
            "moves, and black where nothing was ever filmed. For plates whose camera stands still"
        ),
    )


class TakeProperties(PaintingProperties):
    take_name: StringProperty(name="Take", description="Name of the next take and of its folder", default="take_01")
