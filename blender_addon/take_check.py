# SPDX-License-Identifier: GPL-3.0-or-later
"""Did a take keep what was asked for? The server measures it; here the figures become words.

The limits between good, fair and poor are ours: half a pixel is not seen, a whole one is in an A/B wipe; 32 dB is what
one compression costs, from 26 dB on surfaces have changed; a fifth more flicker than the plate's passes for grain. The
painted share's are those of Check Coverage.
"""

import json
from dataclasses import dataclass
from functools import partial

from . import session, shots, take_files, take_list, takes
from .errors import DAMAGED, ShotDataError
from .shooting import INPUT_ROLES

TAKE_ROLES = ("take.json", "camera.npz", "color.mkv", "mask.mkv", "result.mkv")
RECORD = "evaluation.json"
PAGE = "evaluation.html"  # the same, with pictures and plots
GOOD, FAIR, POOR = "good", "fair", "poor"


@dataclass(frozen=True)
class Question:
    """One thing that is asked of a take."""

    label: str
    text: str  # of the figure
    good: float  # up to here; from here on where more is better
    fair: float
    meaning: str
    total: str = ""  # name of the figure for the whole take; else the mean over its frames
    frames: str = ""  # name of the figure by frame

    def word(self, value: float) -> str:
        """Return how good a figure is."""
        sign = 1 if self.good <= self.fair else -1
        return GOOD if sign * value <= sign * self.good else FAIR if sign * value <= sign * self.fair else POOR


QUESTIONS = (
    Question(
        "Camera",
        "{:.2f} px off",
        *(0.5, 1.0),
        "By how far what the plate shows stands elsewhere in the result's picture than the camera asks for. More than "
        "a pixel: the take does not follow the camera",
        frames="shift_px",
    ),
    Question(
        "Found",
        "{:.0%} of frames",
        *(0.95, 0.7),
        "Share of frames whose camera could be found again in the result. Few: the painting changed the picture, or "
        "little of the plate shows",
        total="localised",
        frames="inliers",
    ),
    Question(
        "Plate kept",
        "{:.0f} dB",
        *(32, 26),
        "How much of what the plate shows is still there in the result, as PSNR: at 40 dB it looks the same, below "
        "26 dB surfaces have changed",
        frames="kept_psnr_db",
    ),
    Question(
        "Flicker",
        "{:.1f} x plate's",
        *(1.2, 2.0),
        "How much the picture changes between frames beyond its motion, in times of the plate's own",
        total="flicker_ratio",
        frames="flicker",
    ),
    Question(
        "Painted",
        "{:.0%}",
        *(0.1, 0.4),
        "Share of the picture that the plate never saw",
        frames="unseen",
    ),
)


@dataclass(frozen=True)
class Finding:
    """What was found out about one question."""

    question: Question
    value: float | None  # None: it could not be measured
    worst_frame: int | None  # 0-based in the take

    @property
    def word(self) -> str:
        return "" if self.value is None else self.question.word(self.value)

    @property
    def said(self) -> str:
        """The finding in a few words."""
        if self.value is None:
            return f"{self.question.label}: cannot be told"
        return f"{self.question.label}: {self.word}, {self.question.text.format(self.value)}"


def start(scene, item):
    """Send a take to be measured.

    Raises:
        ShotDataError: files of the shot or of the take are missing.
    """
    name = item.name
    inputs = {role: shots.shot_file(scene, role) for role in INPUT_ROLES}
    inputs |= {role: shots.shot_file(scene, f"takes/{name}/{role}") for role in TAKE_ROLES}
    folder = takes.take_folder(scene, name)
    on_done = partial(_arrived, scene.ex4d.shot_id, name, folder)
    session.start_job(f"Check of {name}", "evaluate", {"name": name}, inputs, folder, on_done)


def _arrived(shot_id, name, folder, files):
    on_done = partial(_remember, shot_id, name)
    session.call("Reading the check", read_check, folder, on_done=on_done)


def read_check(folder) -> str:
    """Return what the panel needs of a measured take, as JSON. Runs in the background thread."""
    try:
        record = shots.read_record(folder / RECORD)
        totals, summary = record["totals"], record["summary"]
        frames = {}
        for question in QUESTIONS:
            figures = summary.get(question.frames, {})
            value = totals.get(question.total) if question.total else figures.get("mean")
            frames[question.label] = [value, figures.get("worst_frame")]
        found = take_files.read_take(folder, "RESULT")
    except (*DAMAGED, AttributeError, TypeError) as error:  # the last two: not the record of a check
        raise ShotDataError(f"{folder / RECORD} cannot be read ({error}). Check the result again.") from error
    return json.dumps({"found": frames, "first_frame": found.frame_start, "first_source": found.first_source_frame})


def _remember(shot_id, name, check):
    scene = shots.scene_of(shot_id)
    item = take_list.find(scene.ex4d, name) if scene is not None else None
    if item is not None:
        with session.undo_step("Check Result"):
            item.check = check


def findings(item) -> list[Finding]:
    """Return what is known of a take; empty before it was checked."""
    found = json.loads(item.check)["found"] if item.check else {}
    return [Finding(question, *found[question.label]) for question in QUESTIONS if question.label in found]


def scene_frame(state, item, frame: int) -> int:
    """Return the scene frame on which a take's frame stands."""
    check = json.loads(item.check)
    first = check["first_frame"]
    return frame + (state.plate_start + check["first_source"] if first is None else first)


def page_of(scene, item):
    """Return the path of the page with pictures and plots. Looks at no file."""
    return takes.take_folder(scene, item.name) / PAGE
