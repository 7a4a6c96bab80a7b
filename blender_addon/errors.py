# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong on Blender's side, in an artist's words."""

import zipfile
import zlib

# What reading a damaged .json or .npz raises.
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class ArtistError(Exception):
    """The message is one the artist can act on; operators report it as it is."""


class CameraPathError(ArtistError):
    """The scene's camera cannot be sent as a path of pinhole cameras."""


class PlateError(ArtistError):
    """The chosen file is no plate."""


class PreferencesError(ArtistError):
    """The extension's preferences cannot be used."""


class ShotDataError(ArtistError):
    """Files of a shot are missing or do not fit together."""


class SolveError(ArtistError):
    """The plate's solved camera motion cannot be used."""
