# SPDX-License-Identifier: Apache-2.0
"""Everything that can go wrong, as types.

Each message says what was expected, what arrived and what to do. `code` is the stable name that crosses the wire;
`exit_code` is what a command line or a render farm sees.
"""


class Ex4dError(Exception):
    """Base of every error that this library raises on purpose."""

    code = "internal"
    exit_code = 1


class InputError(Ex4dError):
    """The job itself is wrong: another machine or another try will not help."""

    code = "bad_input"
    exit_code = 2


class ShapeError(InputError):
    """An array has the wrong shape or dtype."""

    code = "bad_shape"


class VideoError(InputError):
    """A clip is missing, is not a video, or cannot be decoded."""

    code = "bad_video"


class DepthError(InputError):
    """A depth clip does not fit its plate or holds values that are no depth."""

    code = "bad_depth"


class CameraError(InputError):
    """A camera path is not a rigid, finite pinhole path over the shot."""

    code = "bad_camera"


class ShotError(InputError):
    """A shot folder is missing, damaged or written by a newer version."""

    code = "bad_shot"


class LicenceError(InputError):
    """The licence of what was asked for has to be accepted first."""

    code = "licence"


class MachineError(Ex4dError):
    """This machine lacks something (a package, a GPU, weights); another one may not."""

    code = "machine"
    exit_code = 3


class StorageError(MachineError):
    """The disk is full or refuses to be written."""

    code = "storage"


class Cancelled(Ex4dError):
    """The user stopped the work."""

    code = "cancelled"
    exit_code = 5
