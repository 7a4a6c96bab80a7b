# SPDX-License-Identifier: Apache-2.0
"""What a viewer needs to show the meshes of a whole shot: the contents of display.npz."""

import numpy as np

from ex4d.camera import Array, Convention
from ex4d.errors import ShapeError
from ex4d.mesh import check_depth, far_depth, watertight_mesh
from ex4d.progress import ProgressCallback, track


def display_arrays(
    depth: Array,
    intrinsics: Array,
    convention: Convention,
    progress: ProgressCallback | None = None,
    sky: Array | None = None,
) -> dict[str, Array]:
    """What a viewer needs to show the meshes of a whole shot; saved with np.savez as display.npz.

    Args:
        depth: z-depth, shot units. float [T, H, W]
        intrinsics: the source camera's, pixels. [3, 3]
        sky: where the plate shows the sky. bool [T, H, W]

    Returns:
        u [W'], v [H'], texture_offset [], intrinsics [3, 3]: as in `DWMesh`, float64.
        size: the plate's width and height, int64 [2].
        depth: float32 [T, H', W'].
        occluded: np.packbits of the grid's quads, row-major, uint8 [T, ceil((H'-1) (W'-1) / 8)]; set where at least
            one of the quad's two faces does not show the plate. The closing quad is not among them.
        convention: str [].
    """
    if depth.ndim != 3 or len(depth) == 0:
        raise ShapeError(f"depth must be [T, H, W] with at least one frame, got {list(depth.shape)}.")
    for frame, plane in enumerate(depth):
        check_depth(plane, frame)
    far = far_depth(depth, sky)
    depths: list[Array] = []
    occluded: list[Array] = []
    for frame in track(range(len(depth)), "Building the mesh", progress):
        mesh = watertight_mesh(depth[frame], intrinsics, convention, far, None if sky is None else sky[frame])
        depths.append(mesh.depth)
        occluded.append(np.packbits(~mesh.visible.all(axis=2)))
    return {
        "u": mesh.u,
        "v": mesh.v,
        "texture_offset": np.array(mesh.texture_offset, dtype=np.float64),
        "intrinsics": np.asarray(mesh.intrinsics, dtype=np.float64),
        "size": np.array(depth.shape[:0:-1], dtype=np.int64),
        "depth": np.stack(depths),
        "occluded": np.stack(occluded),
        "convention": np.array(convention),
    }
