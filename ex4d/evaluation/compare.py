# SPDX-License-Identifier: Apache-2.0
"""One HTML page that lays two measured takes side by side: pictures, figures, plots. It needs no other file."""

import base64
import html
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import ex4d
from ex4d.camera import Array
from ex4d.document import Json
from ex4d.errors import InputError
from ex4d.evaluation.metrics import FRAME_METRICS, TAKE_METRICS, Metric
from ex4d.evaluation.page_style import STYLE
from ex4d.evaluation.plots import line_plot
from ex4d.evaluation.record import FILE, Evaluation, read_evaluation
from ex4d.progress import ProgressCallback
from ex4d.storage import file_sha256, replacing
from ex4d.video import read_video

COLUMNS = 6
THUMBNAIL_PX = 280  # longer side
JPEG_QUALITY = 88
DIFFERENCE_GAIN = 4
ALIKE = 1e-9  # relative: figures nearer than this are one
SHOWN_ABOUT = ("engine", "settings", "seed", "raster", "convention", "depth", "size", "take_version", "truth")


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two."""

    name: str
    evaluation: Evaluation
    result: Array  # uint8 [N, h, w, 3]
    mesh: Array  # uint8 [N, h, w, 3]
    stale: bool  # whether the result was painted again after it was measured


def read_side(path: Path, name: str | None = None, progress: ProgressCallback | None = None) -> Side:
    """Read a take's folder, with its evaluation.json, or the folder to which that was written.

    Raises:
        ShotError, VideoError, InputError: a file is missing or damaged.
    """
    folder = path.parent if path.name == FILE else path
    evaluation = read_evaluation(folder / FILE)
    measured = evaluation.about.get("folder")
    if not (folder / "result.mkv").is_file() and isinstance(measured, str):
        folder = Path(measured)  # the figures were written elsewhere
    clips = [read_video(folder / file, progress=progress).frames for file in ("result.mkv", "color.mkv")]
    for clip in clips:
        if len(clip) != evaluation.frame_count:
            raise InputError(
                f"'{folder}' has {len(clip)} frames, {evaluation.frame_count} were measured. Measure the take again."
            )
    stale = evaluation.hashes.get("result.mkv") != file_sha256(folder / "result.mkv", "Hashing", progress)
    return Side(name or _short_name(folder), evaluation, clips[0], clips[1], stale)


def _short_name(folder: Path) -> str:
    """A take's folder as people would call it: its shot and its own name."""
    place = folder.resolve()
    return f"{place.parents[1].name}, {place.name}" if place.parent.name == "takes" else place.name


def write_page(path: Path, first: Side, second: Side) -> None:
    """Write the page.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(page(first, second), encoding="utf-8")


def page(first: Side, second: Side) -> str:
    """The page as text."""
    sides = (first, second)
    names = [html.escape(side.name) for side in sides]
    warnings = [
        f'<p class="warning">{name}: the result was painted again after it was measured.</p>'
        for name, side in zip(names, sides, strict=True)
        if side.stale
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{names[0]} and {names[1]}</title><style>{STYLE}</style></head><body>"
        f'<h1><span class="a">{names[0]}</span> and <span class="b">{names[1]}</span></h1>'
        f"{''.join(warnings)}"
        f'<h2>Pictures</h2><div class="wide">{_pictures(first, second)}</div>'
        f'<h2>Figures</h2><div class="wide">{_figures(first.evaluation, second.evaluation, names)}</div>'
        f'<h2>By angle</h2><div class="wide">{_angles(first.evaluation, second.evaluation, names)}</div>'
        f"<h2>Frame by frame</h2>{_plots(first.evaluation, second.evaluation, names)}"
        f"<h2>Made with</h2>{_about(first.evaluation, second.evaluation, names)}"
        f"<h2>Blank</h2>{_blank(first.evaluation, second.evaluation, names)}"
        f"<footer>ex4d {html.escape(ex4d.__version__)}, ex4d evaluate compare</footer></body></html>\n"
    )


def _pictures(first: Side, second: Side) -> str:
    """Frames of both, and what differs where both have one size."""
    rows = [("Mesh", first.mesh, "a"), ("Result", first.result, "a")]
    rows += [("Result", second.result, "b"), ("Mesh", second.mesh, "b")]
    if first.result.shape == second.result.shape:
        change = cv2.absdiff(first.result, second.result)
        gained = np.minimum(change.astype(np.uint16) * DIFFERENCE_GAIN, 255).astype(np.uint8)
        rows.insert(2, (f"Difference, {DIFFERENCE_GAIN} times", gained, "d"))
    times = np.linspace(0, 1, min(COLUMNS, max(len(first.result), len(second.result))))
    head = "".join(
        f"<th>{_frame_numbers(round(t * (len(first.result) - 1)), round(t * (len(second.result) - 1)))}</th>"
        for t in times
    )
    body = ""
    for label, clip, kind in rows:
        cells = "".join(f"<td>{_image(clip[round(t * (len(clip) - 1))])}</td>" for t in times)
        owner = {"a": html.escape(first.name), "b": html.escape(second.name), "d": ""}[kind]
        body += f'<tr><th class="{kind}">{label}<small>{owner}</small></th>{cells}</tr>'
    return f'<table class="sheet"><tr><th></th>{head}</tr>{body}</table>'


def _frame_numbers(one: int, other: int) -> str:
    return f"frame {one}" if one == other else f"frames {one}, {other}"


def _image(picture: Array) -> str:
    height, width = picture.shape[:2]
    scale = min(1.0, THUMBNAIL_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, coded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    data = base64.b64encode(coded.tobytes()).decode()
    return f'<img alt="" width="{size[0]}" height="{size[1]}" src="data:image/jpeg;base64,{data}">'


def _figures(first: Evaluation, second: Evaluation, names: list[str]) -> str:
    """Every measure: mean of both, change, worst frames."""
    body, group = "", ""
    everything = (*FRAME_METRICS.items(), *TAKE_METRICS.items())
    groups = list(dict.fromkeys(metric.group for _, metric in everything))
    for key, metric in sorted(everything, key=lambda item: groups.index(item[1].group)):
        ours = [side.mean(key) if key in FRAME_METRICS else side.totals.get(key) for side in (first, second)]
        if metric.group != group:
            group = metric.group
            body += f'<tr class="group"><th colspan="6">{html.escape(group)}</th></tr>'
        marks = _better(ours[0], ours[1], metric)
        cells = "".join(
            f'<td class="{mark}">{html.escape(metric.shown(value))}</td>'
            for value, mark in zip(ours, marks, strict=True)
        )
        worst = "".join(f'<td class="faint">{_worst(side, key, metric)}</td>' for side in (first, second))
        arrow = {"higher": "higher is better", "lower": "lower is better", "neither": ""}[metric.better]
        hint = html.escape(metric.meaning) + (f"; {arrow}" if arrow else "")
        body += f"<tr><th>{html.escape(metric.label)}<small>{hint}</small></th>{cells}"
        body += f"<td>{_change(ours[0], ours[1], metric)}</td>{worst}</tr>"
    head = f'<th>Mean of the frames</th><th class="a">{names[0]}</th><th class="b">{names[1]}</th><th>Change</th>'
    worst_head = '<th class="a">Worst</th><th class="b">Worst</th>'
    return f'<table class="figures"><tr>{head}{worst_head}</tr>{body}</table>'


def _better(one: float | None, other: float | None, metric: Metric) -> tuple[str, str]:
    if one is None or other is None or metric.better == "neither":
        return "", ""
    if abs(one - other) <= ALIKE * max(abs(one), abs(other)) or metric.shown(one) == metric.shown(other):
        return "", ""
    return ("best", "") if (one > other) == (metric.better == "higher") else ("", "best")


def _change(one: float | None, other: float | None, metric: Metric) -> str:
    if one is None or other is None:
        return ""
    sign = "+" if other > one else "-" if other < one else ""
    shown = metric.shown(abs(other - one))
    return "same" if metric.shown(one) == metric.shown(other) else html.escape(sign + shown)


def _worst(side: Evaluation, key: str, metric: Metric) -> str:
    worst = side.worst(key) if key in side.frames else None
    if worst is None or metric.shown(worst[0]) == metric.shown(side.mean(key)):
        return ""
    return html.escape(f"{metric.shown(worst[0])}, frame {worst[1]}")


def _angles(first: Evaluation, second: Evaluation, names: list[str]) -> str:
    """Means of the ranges of the paper which both or either take reaches into."""
    tables = [first.ranges(), second.ranges()]
    ranges = list(dict.fromkeys((*tables[0], *tables[1])))
    if len(ranges) == 1:
        return (
            f"<p>Both stay within {ranges[0]} degrees of the source view: the means above are those of this range.</p>"
        )
    head = "".join(
        f'<th class="{kind}">{limits}°<small>{names[side]}</small></th>'
        for limits in ranges
        for side, kind in enumerate("ab")
    )
    body = ""
    for key, metric in FRAME_METRICS.items():
        if all(side.mean(key) is None for side in (first, second)):
            continue
        cells = "".join(
            f"<td>{html.escape(metric.shown(tables[side].get(limits, {}).get(key)))}</td>"
            for limits in ranges
            for side in (0, 1)
        )
        body += f"<tr><th>{html.escape(metric.label)}</th>{cells}</tr>"
    note = "Up to these angles between the cameras' lines of sight. What no take reaches is left out."
    return f'<p>{note}</p><table class="figures"><tr><th></th>{head}</tr>{body}</table>'


def _plots(first: Evaluation, second: Evaluation, names: list[str]) -> str:
    legend = f'<p class="legend"><span class="a">{names[0]}</span> <span class="b">{names[1]}</span></p>'
    figures, steady = "", []
    for key, metric in FRAME_METRICS.items():
        columns, classes = [], []
        for side, kind in ((first, "a"), (second, "b")):
            if side.mean(key) is not None:
                columns.append(side.frames[key])
                classes.append(kind)
        if columns:
            values = {round(value, 9) for column in columns for value in column if value is not None}
            if len(values) == 1:
                steady.append(f"{html.escape(metric.label)} {html.escape(metric.shown(values.pop()))}")
                continue
            unit = f" [{metric.unit}]" if metric.unit else ""
            caption = f"<figcaption>{html.escape(metric.label + unit)}</figcaption>"
            drawn = line_plot(columns, classes, 100 if metric.unit == "%" else 1)
            figures += f"<figure>{caption}{drawn}</figure>"
    same = f'<p class="same">The same in every frame that has them: {", ".join(steady)}.</p>' if steady else ""
    return f'{legend}<div class="plots">{figures}</div>{same}'


def _about(first: Evaluation, second: Evaluation, names: list[str]) -> str:
    body = ""
    for key in SHOWN_ABOUT:
        values = [_text(side.about.get(key)) for side in (first, second)]
        mark = ' class="differs"' if values[0] != values[1] else ""
        label = html.escape(key.replace("_", " "))
        body += f"<tr{mark}><th>{label}</th><td>{values[0]}</td><td>{values[1]}</td></tr>"
    head = f'<tr><th></th><th class="a">{names[0]}</th><th class="b">{names[1]}</th></tr>'
    return f'<table class="about">{head}{body}</table>'


def _text(value: Json) -> str:
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, dict):
        return "<br>".join(f"{html.escape(name)}: {_text(item)}" for name, item in value.items())
    if isinstance(value, list):
        return html.escape(" x ".join(str(item) for item in value))
    return html.escape(str(value))


def _blank(first: Evaluation, second: Evaluation, names: list[str]) -> str:
    """What was not measured, and why."""
    items = ""
    for key, why in {**first.blank, **second.blank}.items():
        owners = [name for name, side in zip(names, (first, second), strict=True) if key in side.blank]
        whose = "" if len(owners) == 2 else f" ({owners[0]})"
        items += f"<li><b>{html.escape(key)}</b>: {html.escape(why)}{whose}</li>"
    return f"<ul>{items}</ul>"
