# SPDX-License-Identifier: Apache-2.0
"""A sequence of pictures that travels as one file: a plain zip of them, as they are.

One file, because a job names each of its inputs in a header of limited size, and because one checksum then stands for
the plate. Stored, not packed: pictures are packed already.
"""

import shutil
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from ex4d.errors import VideoError
from ex4d.picture import SUFFIXES
from ex4d.progress import ProgressCallback, track


def unpacked_plate(plate: Path, folder: Path, progress: ProgressCallback | None = None) -> Path:
    """The plate of a job: as it came, or the folder into which its pictures were unpacked.

    Args:
        plate: a video, or a .zip of pictures.
        folder: for the pictures; must not exist.

    Raises:
        VideoError: the archive is damaged, or holds something else than pictures side by side.
    """
    if plate.suffix.lower() != ".zip":
        return plate
    try:
        with zipfile.ZipFile(plate) as archive:
            members = archive.infolist()
            for member in members:
                _check_member(plate, member)
            folder.mkdir()
            for member in track(members, "Unpacking the plate", progress):
                with archive.open(member) as packed, (folder / member.filename).open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except (zipfile.BadZipFile, EOFError) as error:
        raise VideoError(f"'{plate.name}' is damaged: {error}. Send the plate again.") from error
    return folder


def _check_member(plate: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename
    is_plain = name == PurePosixPath(name).name == PureWindowsPath(name).name and name not in {"", ".", ".."}
    if not is_plain or PurePosixPath(name).suffix.lower() not in SUFFIXES:
        raise VideoError(f"'{plate.name}' may hold only pictures ({', '.join(SUFFIXES)}), not '{name}'.")
    if member.compress_type != zipfile.ZIP_STORED:
        raise VideoError(f"'{name}' in '{plate.name}' is packed. Store the pictures as they are (zip -0).")
