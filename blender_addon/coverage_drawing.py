# SPDX-License-Identifier: GPL-3.0-or-later
"""How the coverage strip looks in the timeline."""

import bpy
import numpy as np

SCRUB_PX, STRIP_PX = 24, 7  # of the timeline at scale 1: where frames are clicked, and our strip below it

# The library's verdict (ex4d/coverage.py) is Good up to a tenth and Mostly Painted from two fifths on.
COLOURS = ((0.0, (0.15, 0.55, 0.25)), (0.1, (0.55, 0.65, 0.2)), (0.4, (0.85, 0.25, 0.15)), (1.0, (0.5, 0.05, 0.1)))


def colour_of(share: float) -> tuple[float, float, float]:
    """Return the strip's colour for an unseen share."""
    stops, colours = zip(*COLOURS, strict=True)
    red, green, blue = (float(np.interp(share, stops, channel)) for channel in zip(*colours, strict=True))
    return red, green, blue


def spans(strip) -> list[tuple[float, float, float]]:
    """Return (first, end, unseen share) of what is shown, in scene frames without gaps.

    Args:
        strip: coverage_strip.Strip.
    """
    middles = (strip.frames[1:] + strip.frames[:-1]) / 2
    edges = [strip.frames[0] - 0.5, *middles, strip.frames[-1] + 0.5]
    return list(zip(edges[:-1], edges[1:], strip.unseen, strict=True))


def draw(strip):
    """Draw a strip into the timeline or dope sheet that is being drawn."""
    import gpu  # not where no window is
    from gpu_extras.batch import batch_for_shader

    context = bpy.context
    view, scale = context.region.view2d, context.preferences.system.ui_scale
    top = context.region.height - SCRUB_PX * scale
    places, colours = [], []
    for first, end, share in spans(strip):
        left, right = (view.view_to_region(frame, 0, clip=False)[0] for frame in (first, end))
        corners = [(left, top), (right, top), (right, top - STRIP_PX * scale), (left, top - STRIP_PX * scale)]
        places += [corners[i] for i in (0, 1, 2, 0, 2, 3)]
        colours += [(*colour_of(share), 1.0)] * 6
    shader = gpu.shader.from_builtin("FLAT_COLOR")
    batch_for_shader(shader, "TRIS", {"pos": places, "color": colours}).draw(shader)
