# SPDX-License-Identifier: Apache-2.0
"""Camera moves by name: the release's presets, exactly, and our own. All start at the source view.

A move is written NAME, reference:PRESET or NAME:key=value,key=value. Angles are degrees and mean the angle at any
length; distances are shares of the pivot's distance, so that a move looks alike whatever unit the depth has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ex4d.camera import OPENGL_FLIP, Array, CameraPath, check_intrinsics
from ex4d.errors import CameraError
from ex4d.mesh import BORDER_DEPTH, check_depth

RELEASE_FRAMES = 49  # EX-4D release, recon.py: the length at which its angles mean what they say
ZOOM_SHARE = 0.5  # the release names zoom_in and zoom_out but has no code for them: half the way to the orbit centre
# Periods of a hand's sway in frames, from breathing to tremor: 0.4 to 3.4 Hz at 24 fps.
SWAY_PERIODS = np.array([61.0, 29.0, 13.0, 7.0])
MAX_FRAMES = 100_000

EASES: dict[str, Callable[[Array], Array]] = {
    "linear": lambda s: s,
    "smooth": lambda s: s * s * (3 - 2 * s),
    "in": lambda s: s * s,
    "out": lambda s: s * (2 - s),
}
"""How far a move has come, from 0 to 1, at each share of its time."""


@dataclass(frozen=True)
class MoveInfo:
    """One camera move, for menus and help."""

    help: str  # what the camera does, one line
    arguments: Mapping[str, float | int | str]  # name -> default; a move takes no others
    presets: tuple[str, ...] = ()  # what may follow the colon instead of arguments


@dataclass(frozen=True)
class _Plan:
    """What the frames of a move are computed from."""

    numbers: Mapping[str, float]  # the arguments that are numbers
    pivot: float  # distance of the pivot on the source camera's axis, shot units
    progress: Array  # eased, from 0 to 1. [N]

    def angle(self, name: str = "angle") -> Array:
        """Radians at each frame. [N]"""
        return np.asarray(self.progress * np.radians(self.numbers[name]))

    def distance(self) -> Array:
        """Shot units at each frame. [N]"""
        return self.progress * (self.numbers["distance"] * self.pivot)


@dataclass(frozen=True)
class _Poses:
    """Source camera's frame, OpenCV. Fields left out stand still."""

    yaw: Array | float = 0.0  # to the right, radians. [N]
    pitch: Array | float = 0.0  # upwards, radians. [N]
    roll: Array | float = 0.0  # clockwise as the operator sees it, radians. [N]
    x: Array | float = 0.0  # eye, shot units. [N]
    y: Array | float = 0.0
    z: Array | float = 0.0
    zoom: Array | float = 1.0  # factor of the focal length. [N]


def _orbit(plan: _Plan) -> _Poses:
    side, rise = plan.angle(), plan.angle("rise")
    radius = plan.pivot * np.cos(rise)
    eye = radius * np.sin(side), -plan.pivot * np.sin(rise), plan.pivot - radius * np.cos(side)
    return _Poses(-side, -rise, 0.0, *eye)


def _look_at_pivot(plan: _Plan, x: Array, y: Array) -> _Poses:
    yaw = np.arctan2(-x, plan.pivot)
    return _Poses(yaw, np.arctan2(y, np.hypot(x, plan.pivot)), 0.0, x, y)


def _spiral(plan: _Plan) -> _Poses:
    turn, radius = 2 * np.pi * plan.numbers["turns"] * plan.progress, plan.distance()
    return _look_at_pivot(plan, radius * np.cos(turn), -radius * np.sin(turn))


def _dolly_zoom(plan: _Plan) -> _Poses:
    if plan.numbers["distance"] >= 1:
        raise CameraError(f"dolly-zoom: distance must stay below 1, the pivot, got {plan.numbers['distance']:g}.")
    return _Poses(z=plan.distance(), zoom=1 - plan.distance() / plan.pivot)


def _handheld(plan: _Plan) -> _Poses:
    frames = np.arange(len(plan.progress))[:, None]
    phases = np.random.default_rng(int(plan.numbers["seed"])).uniform(0, 2 * np.pi, (6, len(SWAY_PERIODS)))
    weights = SWAY_PERIODS / SWAY_PERIODS.sum() / 2  # halved: the sway is measured from its start, so it counts twice

    def sway(channel: int) -> Array:
        waves = np.sin(2 * np.pi * frames / SWAY_PERIODS + phases[channel]) - np.sin(phases[channel])
        return np.asarray(waves @ weights)

    angle, distance = np.radians(plan.numbers["angle"]), plan.numbers["distance"] * plan.pivot
    turns, eye = [angle * sway(k) for k in range(3)], [distance * sway(k) for k in range(3, 6)]
    return _Poses(*turns, *eye)


def _eased(help_text: str, **numbers: float) -> MoveInfo:
    return MoveInfo(help_text, {**numbers, "ease": "smooth", "pivot": "auto"})


_MOVES: dict[str, tuple[MoveInfo, Callable[[_Plan], _Poses]]] = {
    "orbit": (
        _eased("Circle round the pivot, to the right for angle > 0, upwards for rise > 0", angle=30.0, rise=0.0),
        _orbit,
    ),
    "dolly": (
        _eased("Move forward (distance > 0) or back", distance=0.3),
        lambda plan: _Poses(z=plan.distance()),
    ),
    "truck": (
        _eased("Move to the right (distance > 0) or left", distance=0.2),
        lambda plan: _Poses(x=plan.distance()),
    ),
    "pedestal": (
        _eased("Move up (distance > 0) or down", distance=0.2),
        lambda plan: _Poses(y=-plan.distance()),
    ),
    "pan": (
        MoveInfo("Turn to the right (angle > 0) or left on the spot", {"angle": 15.0, "ease": "smooth"}),
        lambda plan: _Poses(yaw=plan.angle()),
    ),
    "tilt": (
        MoveInfo("Turn up (angle > 0) or down on the spot", {"angle": 10.0, "ease": "smooth"}),
        lambda plan: _Poses(pitch=plan.angle()),
    ),
    "crane": (
        _eased("Move up (distance > 0) or down and keep looking at the pivot", distance=0.3),
        lambda plan: _look_at_pivot(plan, np.zeros(len(plan.progress)), -plan.distance()),
    ),
    "dolly-zoom": (
        _eased("Move forward (distance > 0) or back and zoom so that the pivot keeps its size", distance=0.3),
        _dolly_zoom,
    ),
    "spiral": (
        _eased("Circle outwards round the source view, looking at the pivot", distance=0.15, turns=1.0),
        _spiral,
    ),
    "handheld": (
        MoveInfo(
            "Sway as if held by hand, never more than angle and distance",
            {"angle": 0.8, "distance": 0.01, "seed": 0, "pivot": "auto"},
        ),
        _handheld,
    ),
}
RELEASE_PRESETS = ("180", "90", "60", "30", "zoom_in", "zoom_out")
MOVES: dict[str, MoveInfo] = {
    "reference": MoveInfo(
        "The EX-4D release's paths: 180 is a loop to both sides; 90, 60 and 30 circle to the right; "
        f"zoom_in and zoom_out move {ZOOM_SHARE:.0%} of the way towards or away from its orbit centre",
        {},
        RELEASE_PRESETS,
    )
} | {name: info for name, (info, _) in _MOVES.items()}


def camera_move(
    move: str, shot_depth0: Array, intrinsics: Array, width: int, height: int, frame_count: int
) -> CameraPath:
    """Make the camera path of a named move; output frame n shows the shot's frame n.

    Args:
        move: "reference:PRESET", "NAME" or "NAME:key=value,..."; see `MOVES`.
        shot_depth0: z-depth of the shot's first frame, which sets pivot and scale. float [H, W]
        intrinsics: the source camera's, for the plate's size, pixels. [3, 3]
        width, height: output size. When it is not the plate's, the lens keeps its horizontal angle of view.
        frame_count: output frames.

    Raises:
        CameraError: there is no such move, preset or argument; the message lists those that exist.
    """
    check_intrinsics(intrinsics)
    check_depth(shot_depth0, 0)
    if not 1 <= frame_count <= MAX_FRAMES:
        raise CameraError(f"frame_count must be from 1 to {MAX_FRAMES}, got {frame_count}.")
    name, _, arguments = move.partition(":")
    if name not in MOVES:
        raise CameraError(f"There is no camera move {name!r}. Choose one of {', '.join(MOVES)}.")
    scaled = _fit_width(intrinsics, shot_depth0.shape[1], shot_depth0.shape[0], width, height)
    lenses = np.repeat(scaled[None], frame_count, axis=0)
    if name == "reference":
        poses = _release_poses(arguments, shot_depth0, frame_count)
    else:
        info, compute = _MOVES[name]
        values = _parse(name, info, arguments)
        pivot = values.get("pivot", "auto")
        moved = compute(
            _Plan(
                {key: value for key, value in values.items() if not isinstance(value, str)},
                default_pivot(shot_depth0) if isinstance(pivot, str) else pivot,
                EASES[str(values.get("ease", "linear"))](np.linspace(0, 1, frame_count)),
            )
        )
        poses = _world_to_camera(moved, frame_count)
        lenses[:, [0, 1], [0, 1]] *= np.broadcast_to(moved.zoom, frame_count)[:, None]
    return CameraPath(poses, lenses, width, height, np.arange(frame_count))


def default_pivot(depth: Array) -> float:
    """A subject's distance: a quarter of the picture's middle third is nearer. One near speck does not move it.

    Args:
        depth: z-depth, shot units. [H, W]
    """
    height, width = depth.shape
    middle = depth[height // 3 : height - height // 3, width // 3 : width - width // 3]
    return float(np.quantile(middle, 0.25))


def _parse(name: str, info: MoveInfo, text: str) -> dict[str, float | str]:
    values: dict[str, float | str] = dict(info.arguments)
    for part in filter(None, text.split(",")):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in info.arguments:
            raise CameraError(f"{name} has no argument {key!r}. It takes {', '.join(info.arguments)}, as key=value.")
        if key == "ease":
            if value not in EASES:
                raise CameraError(f"{name}: ease must be one of {', '.join(EASES)}, got {value!r}.")
            values[key] = value
        elif not (key == "pivot" and value == "auto"):
            values[key] = _number(name, key, value)
    return values


def _number(name: str, key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise CameraError(f"{name}: {key} must be a number, got {text!r}.") from error
    if not np.isfinite(value):
        raise CameraError(f"{name}: {key} must be finite, got {text}.")
    if key == "pivot" and value <= 0:
        raise CameraError(f"{name}: pivot is a distance before the source camera and must be above 0, got {text}.")
    if key == "seed" and (value < 0 or value != int(value)):
        raise CameraError(f"{name}: seed must be a whole number of 0 or more, got {text}.")
    return value


def _fit_width(intrinsics: Array, plate_width: int, plate_height: int, width: int, height: int) -> Array:
    """The same lens for another picture size: same horizontal angle of view, same shift off the centre."""
    scale = width / plate_width
    fitted = intrinsics.astype(np.float64)
    fitted[:2] *= scale
    fitted[1, 2] += (height - plate_height * scale) / 2
    return fitted


def _world_to_camera(poses: _Poses, count: int) -> Array:
    """[N, 4, 4]: yaw, then pitch, then roll, at the eye."""
    yaw, pitch, roll, x, y, z = (
        np.broadcast_to(np.asarray(value, dtype=np.float64), count)
        for value in (poses.yaw, poses.pitch, poses.roll, poses.x, poses.y, poses.z)
    )
    camera_to_world = _rotation(yaw, 2, 0) @ _rotation(pitch, 1, 2) @ _rotation(roll, 0, 1)
    matrices = np.zeros((count, 4, 4))
    matrices[:, 3, 3] = 1
    matrices[:, :3, :3] = rotation = camera_to_world.transpose(0, 2, 1)
    matrices[:, :3, 3] = -np.einsum("nij,nj->ni", rotation, np.stack([x, y, z], axis=-1))
    return matrices


def _rotation(angle: Array, first: int, second: int) -> Array:
    """Turn the first axis towards the second. angle: radians [N]. Returns: [N, 3, 3]"""
    matrices = np.repeat(np.eye(3)[None], len(angle), axis=0)
    matrices[:, first, first] = matrices[:, second, second] = np.cos(angle)
    matrices[:, second, first], matrices[:, first, second] = np.sin(angle), -np.sin(angle)
    return matrices


def _release_poses(preset: str, depth: Array, count: int) -> Array:
    """World to camera of the release's presets (recon.py), OpenCV. [N, 4, 4]"""
    if preset not in RELEASE_PRESETS:
        raise CameraError(
            f"reference has no preset {preset!r}. Choose reference:{' or reference:'.join(RELEASE_PRESETS)}."
        )
    bordered = np.array(depth, dtype=np.float64)
    bordered[[0, -1]] = bordered[:, [0, -1]] = BORDER_DEPTH
    radius = bordered.min() + 0.15
    share, still = np.linspace(0, 1, count), np.zeros(count)
    # The release's angle grows with the distance from 49 frames, for shorter clips too.
    rounds = max(RELEASE_FRAMES / count, count / RELEASE_FRAMES)
    if preset.startswith("zoom"):
        sign = 1 if preset == "zoom_in" else -1
        eyes = np.stack([still, still, sign * ZOOM_SHARE * radius * share], axis=-1)
    elif preset == "180":
        theta = 2 * np.pi * rounds * share
        eyes = radius * np.stack([np.sin(theta), 0.2 * (np.cos(theta) - 1), still], axis=-1)
    else:
        theta = np.radians(float(preset)) * rounds * share
        cosine = np.abs(np.cos(theta))
        eyes = radius * np.stack([np.sin(theta), 0.2 * (cosine - 1), 1 - cosine], axis=-1)
    centre = np.array([0.0, 0.0, radius])
    return np.stack([OPENGL_FLIP @ _release_pose(eye, centre) for eye in eyes])


def _release_pose(eye: Array, centre: Array) -> Array:
    """World to camera as the release saves it, in OpenGL axes. [4, 4]"""

    def normalised(vector: Array) -> Array:
        length = np.linalg.norm(vector)
        return np.asarray(vector / (length if length >= 1e-8 else 1.0))

    forward = normalised(centre - eye)
    side = normalised(np.cross(forward, [0.0, 1.0, 0.0]))
    view = np.stack([side, normalised(np.cross(side, forward)), forward])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = -view, view @ eye
    return matrix
