# SPDX-License-Identifier: Apache-2.0
"""The whole method on one page: reconstruct, condition, generate, finish.

A filmed plate becomes a shot (frames, depth, lens). A camera path over the shot is rendered into the two clips that
say what the plate shows from there and what it never saw. An engine paints the unseen part. All steps read and write
the shot folder, so that each can be run, looked at and repeated on its own.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

import ex4d
from ex4d.audio import Audio, read_audio
from ex4d.camera import CameraPath, Convention, pinhole_intrinsics
from ex4d.conditioning import Conditioning, render_conditioning
from ex4d.coverage import coverage
from ex4d.depth import DepthKind
from ex4d.depth.finding import DepthRequest, find_depth
from ex4d.depth.sizes import release_size
from ex4d.distortion import LensDistortion, straightened
from ex4d.errors import InputError, VideoError
from ex4d.finish import playback, write_result
from ex4d.generation import GenerateOptions, engine
from ex4d.generation.room import MESH_PIXEL, make_room
from ex4d.lens import asked_focal_px, guessed_focal_px, noted_focal_px
from ex4d.licence import allowed_by_all, licence_notices
from ex4d.plate import read_plate
from ex4d.progress import ProgressCallback
from ex4d.raster import Rasteriser, rasteriser
from ex4d.shot import Shot, shot_from
from ex4d.source_camera import read_source_cameras, seen_from_the_plate
from ex4d.storage import file_sha256
from ex4d.takes import Take, read_take_clips, take_folder, write_take, write_take_clips
from ex4d.video import Clip

SAME_LENS = 1e-3  # share of the focal length by which two numbers for one lens may differ
TOLD = ("color.mkv", "mask.mkv")  # what an engine is told, as an artist may have changed it
SHOT_FILES = ("shot.json", "plate.mkv", "depth.npz")  # what a take is made from, beside its camera


@dataclass(frozen=True)
class ReconstructOptions:
    """How a plate becomes a shot."""

    depth: str = "auto"  # name of a depth source; auto takes the best one that this machine has
    depth_file: Path | None = None  # for depth "file"
    depth_kind: DepthKind = "z"  # what that file holds
    depth_options: Mapping[str, str] = field(default_factory=dict)  # of the source, and what is known: docs/depth.md
    depth_points: Path | None = None  # .npz of tracked points, see ex4d.depth.known
    accept_licence: bool = False  # of a source that forbids paid work
    convention: Convention = "exact"
    focal_px: float | None = None  # focal length in pixels of the plate, else from lens and sensor
    lens_mm: float | None = None
    sensor_width_mm: float | None = None
    source_camera: Path | None = None  # .npz of the plate's own moving camera, solved or given; it brings the lens
    lens_distortion: LensDistortion | None = None  # of the plate's lens, to be undone
    frame_start: int = 0  # first frame of the plate to use
    frame_count: int | None = None  # None: to the end
    fps: Fraction | None = None  # of a plate of pictures; a video has its own
    number_start: int | None = None  # of pictures: the number of the plate's first frame; None: the lowest


def reconstruct(plate: Path, options: ReconstructOptions, progress: ProgressCallback | None = None) -> Shot:
    """Turn a filmed plate into a shot: its frames, their depth and its lens.

    Args:
        plate: a video, or pictures as `read_plate` finds them.
        options: depth source, lens and frame range.
        progress: receives every frame's report.

    Raises:
        VideoError, DepthError, InputError: the plate, its depth or the options cannot be used; the message says why.
    """
    clip = read_plate(plate, options.frame_start, options.frame_count, progress, options.fps, options.number_start)
    lens = options.lens_distortion
    if lens is not None:
        clip = straightened(clip, lens, keeps_center=options.source_camera is not None, progress=progress)
    if options.convention == "reference":
        clip = resized_as_the_release(clip)
    height, width = clip.frames.shape[1:3]
    focal_px = asked_focal_px(options.focal_px, options.lens_mm, options.sensor_width_mm, options.convention, width)
    notices = list(clip.notices)
    if lens is not None and options.depth_file is not None:
        notices.append("The depth file is taken to fit the undistorted plate.")
    cameras = None
    if options.source_camera is not None:
        if focal_px is not None:
            raise InputError(
                "The source camera brings its own lens and needs the exact convention: give one or the other."
            )
        cameras = read_source_cameras(options.source_camera, clip.first_frame, len(clip.frames), width, height)
        focal_px = float(cameras.intrinsics[0, 0])
        notices.append(f"The lens comes from the source camera ({focal_px:.1f} px), and so does the plate's place.")
    elif focal_px is None and lens is not None:
        focal_px = lens.focal
    elif focal_px is None and not clip.is_pictures and (noted := noted_focal_px(plate, width, height)) is not None:
        focal_px, notice = noted
        notices.append(notice)
    request = DepthRequest(
        options.depth,
        options.depth_file,
        options.depth_kind,
        options.depth_options,
        options.depth_points,
        options.accept_licence,
    )
    depth = find_depth(clip, request, options.convention, focal_px, cameras, progress)
    if focal_px is None and depth.focal_px is not None:
        focal_px = depth.focal_px
        notices.append(f"The lens comes from the depth source ({focal_px:.1f} px).")
    if focal_px is None:
        focal_px, notice = guessed_focal_px(width)
        notices.append(notice)
    if lens is not None and options.convention == "exact" and abs(focal_px / lens.focal - 1) > SAME_LENS:
        notices.append(
            f"The lens ({focal_px:.1f} px) differs from the one whose distortion was undone ({lens.focal:.1f} px): one "
            "of them is wrong."
        )
    intrinsics = cameras.intrinsics if cameras is not None else pinhole_intrinsics(focal_px, width, height)
    audio, missing = plate_sound(clip)
    return shot_from(clip, depth, intrinsics, options.convention, (*notices, *missing), cameras, audio)


def plate_sound(clip: Clip) -> tuple[Audio | None, tuple[str, ...]]:
    """The sound of a clip's frames; or none, and why."""
    if clip.is_pictures:
        return None, ()
    try:
        return read_audio(clip.path, clip.first_frame, len(clip.frames), clip.fps), ()
    except VideoError as error:
        return None, (f"{error} The shot goes on without it.",)


def resized_as_the_release(clip: Clip) -> Clip:
    """The clip at the size to which the release squeezes it: sides of 64 n, the longer one at most 1024."""
    height, width = clip.frames.shape[1:3]
    size = release_size(width, height)
    if 0 in size:
        raise InputError(f"The reference convention needs at least 64x64 pixels, the plate has {width}x{height}.")
    if size == (width, height):
        return clip
    frames = np.stack([cv2.resize(frame, size) for frame in clip.frames])
    notice = f"Resized from {width}x{height} to {size[0]}x{size[1]}, as the EX-4D release does (convention reference)."
    return dataclasses.replace(clip, frames=frames, notices=(*clip.notices, notice))


def render_take(
    folder: Path,
    shot: Shot,
    name: str,
    cameras: CameraPath,
    raster: str = "auto",
    progress: ProgressCallback | None = None,
) -> tuple[Take, Conditioning]:
    """Render the shot's mesh along a camera path and keep the conditioning as a new take.

    Args:
        folder: the shot folder; an older take of that name in it is replaced.
        shot: what lies there.
        name: the take's name.
        cameras: the path, in the shot's world.
        raster: name of a rasteriser, or auto.
        progress: receives every frame's report.
    """
    backend = rasteriser(raster)
    conditioning = condition(shot, cameras, backend, progress)
    take = Take(
        name=name,
        raster=backend.name,
        engine=None,
        seed=None,
        coverage=coverage(
            conditioning.mask, conditioning.depth, seen_from_the_plate(cameras, shot.source_camera_to_world)
        ),
        hashes={file: file_sha256(folder / file, "Hashing the shot") for file in SHOT_FILES},
        version=ex4d.__version__,
        commercial_use=allowed_by_all(shot.depth_info.commercial_use, backend.commercial_use),
        notices=_licence_notices(shot, backend),
    )
    write_take_clips(folder, take, cameras, conditioning.color, conditioning.mask, shot.fps, progress)
    return take, conditioning


def read_rendered_take(
    folder: Path, shot: Shot, name: str, progress: ProgressCallback | None = None
) -> tuple[Take, CameraPath, Conditioning]:
    """What `render_take` left in the shot folder.

    Its clips are what counts: an artist may have painted in them. Only their depth is made anew.
    """
    take, cameras, color, mask = read_take_clips(folder, name, progress)
    rendered = condition(shot, cameras, rasteriser(), progress)
    return take, cameras, Conditioning(color=color, mask=mask, depth=rendered.depth)


def generate_take(
    folder: Path,
    shot: Shot,
    take: Take,
    cameras: CameraPath,
    conditioning: Conditioning,
    options: GenerateOptions | None = None,
    progress: ProgressCallback | None = None,
) -> Take:
    """Paint what the plate never saw in a rendered take and write the re-shot plate beside it.

    Args:
        folder: the shot folder.
        shot, take, cameras, conditioning: what `render_take` used and made.
        options: engine, seed and settings; None for the default ones.
        progress: receives every frame's and step's report.
    """
    options = options or GenerateOptions()
    painter = engine(options.engine)
    painted = painter.generate(shot, cameras, conditioning, options, progress)
    audio, timecode, notices = playback(shot, cameras)
    # What an earlier engine left unknown does not count; what depth or rasteriser forbid stays forbidden.
    rendered = False if take.commercial_use is False else shot.depth_info.commercial_use
    finished = dataclasses.replace(
        take,
        engine=painter.name,
        seed=options.seed,
        settings=painted.settings,
        hashes=take.hashes | {file: file_sha256(take_folder(folder, take.name) / file, "Hashing") for file in TOLD},
        commercial_use=allowed_by_all(rendered, painter.commercial_use, painted.commercial_use),
        painting_notices=(*painted.notices, *notices),
    )
    write_result(folder, finished, painted.frames, shot.fps, progress, audio, timecode)
    write_take(folder, finished)
    return finished


def condition(
    shot: Shot, cameras: CameraPath, backend: Rasteriser, progress: ProgressCallback | None = None
) -> Conditioning:
    """What the path shows of the shot: colour, mask and depth of every output frame."""
    cameras = seen_from_the_plate(cameras, shot.source_camera_to_world)
    make_room(MESH_PIXEL * shot.depth.size)
    return render_conditioning(
        shot.frames, shot.depth, shot.intrinsics, shot.convention, cameras, backend, progress, shot.sky
    )


def _licence_notices(shot: Shot, backend: Rasteriser) -> tuple[str, ...]:
    depth = shot.depth_info
    return (
        *licence_notices(depth.source, depth.licence, depth.commercial_use),
        *licence_notices(f"rasteriser {backend.name}", backend.licence, backend.commercial_use),
    )
