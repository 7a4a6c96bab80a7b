# SPDX-License-Identifier: Apache-2.0
"""From a clip to its depth: choose the source, ask for its licence, run it unless its outcome is kept, scale it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ex4d.camera import Convention
from ex4d.depth import SOURCES, best_source, depth_source
from ex4d.depth.cache import cached_estimate
from ex4d.depth.clip import DepthClip, DepthKind, DepthSource, DisparityClip, SourceOptions
from ex4d.depth.known import KNOWN_OPTIONS, known_distances
from ex4d.depth.normalise import NORMALISATIONS
from ex4d.depth.scaling import scaled
from ex4d.errors import DepthError, LicenceError
from ex4d.licence import licence_notices
from ex4d.progress import ProgressCallback
from ex4d.source_camera import SourceCameras
from ex4d.video import Clip


@dataclass(frozen=True)
class DepthRequest:
    """Which depth a plate should get."""

    source: str = "auto"  # name of a depth source; auto takes the file, else the best one that this machine has
    file: Path | None = None
    kind: DepthKind = "z"  # what that file holds
    options: Mapping[str, str] = field(default_factory=dict)  # the source's, near, far, distances, normalise
    points: Path | None = None  # .npz of tracked points, see ex4d.depth.known
    accept_licence: bool = False  # of a source that forbids paid work


def find_depth(
    clip: Clip,
    request: DepthRequest,
    convention: Convention = "exact",
    focal_px: float | None = None,
    cameras: SourceCameras | None = None,
    progress: ProgressCallback | None = None,
) -> DepthClip:
    """Find the z-depth of every frame of a clip.

    Args:
        clip: the plate's frames.
        request: which depth.
        convention: of the shot; `reference` normalises as the release does unless the request says otherwise.
        focal_px: of the plate, pixels; None when unknown.
        cameras: of the plate, when solved or given.
        progress: receives every frame's report.

    Raises:
        LicenceError: the source forbids paid work, and nobody has accepted that.
        DepthError: no such source, or no depth that fits the clip; the message says why.
    """
    name = request.source
    if name == "auto":
        name = "file" if request.file else best_source()
    values = dict(request.options)
    rule = values.pop("normalise", "reference" if convention == "reference" else "fitted")
    if rule not in NORMALISATIONS:
        raise DepthError(f"The depth option normalise is one of {', '.join(NORMALISATIONS)}, got '{rule}'.")
    known = known_distances(values, request.points, cameras)
    own = SOURCES[name].options if name in SOURCES else ()
    # near and far may also say what the ends of a file's scale mean.
    values = {key: value for key, value in values.items() if key in own or key not in KNOWN_OPTIONS}
    source = depth_source(name, SourceOptions(request.file, request.kind, focal_px, cameras, values))
    require_licence(source, request.accept_licence)
    found = cached_estimate(source, clip, progress)
    if found.commercial_use is False:
        notices = (*licence_notices(found.source, found.licence, False), *found.notices)
        found = dataclasses.replace(found, licence_accepted=True, notices=notices)
    if isinstance(found, DisparityClip):
        return scaled(found, rule, known)
    unused = [key for key in (*KNOWN_OPTIONS, "normalise") if key in request.options and key not in own]
    if unused or request.points is not None:
        raise DepthError(
            f"The depth of '{found.source}' has its own scale: {', '.join(unused) or 'known points'} cannot change it. "
            "Leave that out."
        )
    return found


def require_licence(source: DepthSource, accepted: bool) -> None:
    """Stop before a source that forbids paid work, unless that was accepted.

    Raises:
        LicenceError: it was not.
    """
    if source.commercial_use is False and not accepted:
        raise LicenceError(
            f"{source.label} may not be used for paid work. Its licence: {source.licence}. If that fits this shot, "
            "accept it (--accept-licence on the command line, accept_licence in a job): the shot and all its takes "
            "will be marked. Otherwise choose another depth source."
        )
