# SPDX-License-Identifier: Apache-2.0
"""Depth from the plate's own camera motion, in the units of its solve. No weights; the scene must stand still.

What moves, is plain or mirrors is not confirmed by the neighbouring frames. There the depth comes from a prior (another
source, brought to this one's scale where both are known), or from what lies around it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ex4d.depth.alignment import robust_line
from ex4d.depth.clip import DepthClip, DepthSource, DisparityClip, SourceOptions
from ex4d.depth.device import need_packages, torch_device
from ex4d.depth.known import number
from ex4d.depth.sizes import resized
from ex4d.depth.tracked_views import chosen_neighbours, inverse_depth_range
from ex4d.document import Json
from ex4d.errors import DepthError
from ex4d.progress import ProgressCallback
from ex4d.source_camera import SourceCameras
from ex4d.video import Clip

TRACKED_OPTIONS = ("near", "far", "side", "planes", "prior", "device")
"""near=Z, far=Z: between which the planes lie; found from the clip when not given. side=N: longest side at which the
frames are compared. planes=N. prior=SOURCE: where the camera's motion tells nothing. device=NAME."""

SIDE, PLANES, NEIGHBOURS = 640, 96, 4
LEAST_KNOWN = 0.02  # share of a frame that must be confirmed for a prior to be brought to its scale

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class TrackedDepth:
    """Compares the frames at many distances, as the known camera says."""

    cameras: SourceCameras | None
    near: float | None = None
    far: float | None = None
    side: int = SIDE
    planes: int = PLANES
    prior: DepthSource | None = None
    device: str = "auto"

    name = "tracked"

    @classmethod
    def made_of(cls, options: SourceOptions, make: Callable[[str], DepthSource]) -> "TrackedDepth":
        """The source made of the options; `make` gives another source by its name, for the prior."""
        values = options.values
        counts = {}
        for key, default, least in (("side", SIDE, 64), ("planes", PLANES, 8)):
            value = number(values, key, default)
            if value is None or value < least or value != int(value):
                raise DepthError(f"The depth option {key} must be a whole number from {least}, got '{values[key]}'.")
            counts[key] = int(value)
        near, far = number(values, "near", None), number(values, "far", None)
        if (near is not None and near <= 0) or (far is not None and far <= (near or 0)):
            raise DepthError(f"near and far must be distances with 0 < near < far, got near {near} and far {far}.")
        if values.get("prior") == cls.name:
            raise DepthError("The depth source 'tracked' cannot be its own prior. Choose transformers or depthcrafter.")
        prior = make(values["prior"]) if "prior" in values else None
        return cls(options.cameras, near, far, counts["side"], counts["planes"], prior, values.get("device", "auto"))

    @property
    def label(self) -> str:
        return "Tracked camera" + (f" and {self.prior.label}" if self.prior else "")

    @property
    def licence(self) -> str:
        return "the plate's own" + (f"; {self.prior.licence}" if self.prior else "")

    @property
    def commercial_use(self) -> bool | None:
        return self.prior.commercial_use if self.prior else True

    @property
    def cache_key(self) -> dict[str, Json] | None:
        if self.cameras is None:
            return None
        return {
            "near": self.near,
            "far": self.far,
            "side": self.side,
            "planes": self.planes,
            "prior": {"name": self.prior.name, "key": self.prior.cache_key} if self.prior else None,
            "camera_to_world": self.cameras.camera_to_world.tolist(),
            "intrinsics": self.cameras.intrinsics.tolist(),
        }

    def estimate(self, clip: Clip, progress: ProgressCallback | None = None) -> DepthClip:
        """Find the depth of every frame.

        Raises:
            DepthError: the camera is not known, or does not move enough to tell distances.
            MachineError: torch is not installed.
        """
        if self.cameras is None:
            raise DepthError(
                "The depth source 'tracked' needs the plate's own camera: solve it in Blender's movie clip editor, or "
                "give a camera file with --source-camera."
            )
        need_packages(self.label, "torch")
        height, width = clip.frames.shape[1:3]
        if len(self.cameras) != len(clip.frames):
            raise DepthError(f"The source camera has {len(self.cameras)} frames, the clip {len(clip.frames)}.")
        scale = min(1.0, self.side / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        frames = resized(clip.frames, *size)
        lens = np.diag([size[0] / width, size[1] / height, 1.0]) @ self.cameras.intrinsics
        low, high = inverse_depth_range(frames, lens, self.cameras.camera_to_world, self.near, self.far, progress)
        inverse, confirmed = self._swept(frames, lens, low, high, progress)
        share = float(confirmed.mean())
        if self.prior is not None:
            guess = _inverse_of(self.prior.estimate(clip, progress), size)
            inverse = np.stack([with_prior(*three) for three in zip(inverse, confirmed, guess, strict=True)])
            where = f"from {self.prior.label}"
        else:
            inverse = np.stack([filled(*two) for two in zip(inverse, confirmed, strict=True)])
            where = "from what lies around it"
        # Between the last plane and infinity nothing can be told apart: a quarter of a plane is as far as it goes.
        floor = max(low, 0.25 * (high - low) / (self.planes - 1))
        inverse = np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in inverse])
        nearest = cv2.INTER_NEAREST
        valid = [cv2.resize(mask.astype(np.uint8), (width, height), interpolation=nearest) > 0 for mask in confirmed]
        return DepthClip(
            depth=(1 / np.maximum(inverse, floor)).astype(np.float32),
            kind="metric",
            source=self.label,
            licence=self.licence,
            commercial_use=self.commercial_use,
            focal_px=float(self.cameras.intrinsics[0, 0]),
            valid=np.stack(valid),
            parameters={
                "near": 1 / high,
                "far": 1 / low if low > 0 else None,
                "planes": self.planes,
                "side": self.side,
            },
            notices=(f"The camera's motion confirms the depth of {share:.0%} of the clip; the rest comes {where}.",),
        )

    def _swept(
        self, frames: NDArray[np.uint8], lens: NDArray[np.float64], low: float, high: float, progress: Any
    ) -> tuple[Plane, NDArray[np.bool_]]:
        """Inverse depth [T, h, w], 0 where nothing is known, and where it is confirmed."""
        import torch

        from ex4d.depth import plane_sweep

        assert self.cameras is not None
        device = torch_device(self.device)
        poses = self.cameras.camera_to_world
        count = min(NEIGHBOURS, len(frames) - 1)
        sweep = plane_sweep.Sweep(
            frames=torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 255,
            intrinsics=torch.tensor(lens, dtype=torch.float32, device=device),
            world_to_camera=torch.tensor(np.linalg.inv(poses), dtype=torch.float32, device=device),
            inverse_depths=torch.linspace(low, high, self.planes, device=device),
            neighbours=chosen_neighbours(poses, lens, frames.shape[2], high - low, count),
        )
        with torch.inference_mode():
            found, confirmed = plane_sweep.swept_depth(sweep, progress)
            known = [
                torch.where(mask, plane, plane_sweep.filled_from_others(sweep, found, confirmed, i))
                for i, (plane, mask) in enumerate(zip(found, confirmed, strict=True))
            ]
        return torch.stack(known).cpu().numpy(), confirmed.cpu().numpy()


def filled(inverse: Plane, confirmed: NDArray[np.bool_]) -> Plane:
    """Fill what is not known from the farther of its neighbours along the row and the column.

    What only one frame sees is mostly background beside something near, or the picture's edge.

    Args:
        inverse: 0 where not known. [h, w]
        confirmed: those pixels are not touched. [h, w]
    """
    known = inverse > 0
    if not known.any():
        return inverse
    farthest = np.full(inverse.shape, np.inf, np.float32)
    for turns in range(4):  # look from the left, the top, the right and the bottom
        turned, mask = np.rot90(inverse, turns), np.rot90(known, turns)
        last = np.maximum.accumulate(np.where(mask, np.arange(mask.shape[1]), -1), axis=1)
        value = np.take_along_axis(turned, np.maximum(last, 0), axis=1)
        farthest = np.minimum(farthest, np.rot90(np.where(last >= 0, value, np.inf), -turns))
    farthest = np.where(np.isfinite(farthest), farthest, np.median(inverse[known])).astype(np.float32)
    calm = cv2.medianBlur(np.where(known, inverse, farthest), 5)  # no streaks, and no ramp towards what is near
    return np.where(known, inverse, calm).astype(np.float32)


def with_prior(inverse: Plane, confirmed: NDArray[np.bool_], prior: Plane) -> Plane:
    """Put the prior, brought to the scale of what is confirmed, where nothing is. [h, w] each"""
    if confirmed.mean() < LEAST_KNOWN:
        return filled(inverse, confirmed)
    scale, offset = robust_line(prior[confirmed], inverse[confirmed])
    return np.where(confirmed, inverse, np.maximum(scale * prior + offset, 0)).astype(np.float32)


def _inverse_of(found: DepthClip | DisparityClip, size: tuple[int, int]) -> Plane:
    """A clip's disparity or inverse depth at another size, (width, height)."""
    planes = found.disparity if isinstance(found, DisparityClip) else 1 / found.depth
    return np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes])
