# SPDX-License-Identifier: Apache-2.0
"""Depth of a CG scene from Blender's Z pass: exact, in the scene's units, with the sky where rays meet nothing."""

from dataclasses import dataclass

from ex4d.depth.clip import SourceOptions
from ex4d.depth.file import FileDepth
from ex4d.errors import DepthError

BLENDER_OPTIONS = ("layer", "start", "resize", "scale")
"""layer=NAME: of the view layer's pass, where an EXR holds several. start, resize, scale: as of `file`."""


@dataclass(frozen=True)
class BlenderDepth(FileDepth):
    """Reads the OpenEXR files that Blender writes with the Z pass switched on, numbered or single."""

    name = "blender"
    label = "Blender Z pass"
    maker = "Blender Z pass"

    @classmethod
    def made_of(cls, options: SourceOptions) -> "BlenderDepth":
        assert options.depth_file is not None
        if options.depth_file.suffix.lower() != ".exr":
            raise DepthError(
                f"Blender's Z pass comes as OpenEXR, got '{options.depth_file.name}'. Choose 'file' for other formats."
            )
        if options.depth_kind != "z":
            raise DepthError(
                f"Blender's Z pass holds z, got the kind '{options.depth_kind}'. Leave it out or choose 'file'."
            )
        return cls(options.depth_file, "z", options.focal_px, options.values)
