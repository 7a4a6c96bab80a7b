# SPDX-License-Identifier: Apache-2.0
"""GPU memory that an engine keeps between takes, and that other work may need. Imports no torch."""

import sys

GIB = 2**30
DEPTH_MODEL = 16 * GIB  # the largest of them, with its frames
# What a GPU rasteriser holds of each pixel of the plate: picture, depth, sky, the mesh and what it is made from.
MESH_PIXEL = 32


def make_room(needed: int) -> None:
    """Free what the engine keeps, when less than that is free on the GPU.

    Args:
        needed: bytes.
    """
    resident = sys.modules.get("ex4d.generation.wan.resident")  # never imported: nothing is kept
    if resident is not None:
        resident.make_room(needed)
