# SPDX-License-Identifier: Apache-2.0
"""The page's tables: figures with the better one marked, means by angle, what takes were made with, what is missing."""

import html
from collections.abc import Sequence

from ex4d.document import Json
from ex4d.evaluation.metrics import FRAME_METRICS, TAKE_METRICS, Metric
from ex4d.evaluation.record import Evaluation

ALIKE = 1e-9  # relative: figures nearer than this are one
SHOWN_ABOUT = ("engine", "settings", "seed", "raster", "convention", "depth", "size", "take_version", "truth")


def summary(sides: Sequence[Evaluation], names: list[str]) -> str:
    """The page in a sentence."""
    if len(sides) == 1:
        engine = html.escape(str(sides[0].about.get("engine")))
        return f"{sides[0].frame_count} frames, painted by the engine {engine}."
    marks = [_better(_means(sides, key), metric) for key, metric in _everything()]
    better = [sum(mark[side] == "best" for mark in marks) for side in (0, 1)]
    count = sum(metric.better != "neither" and None not in _means(sides, key) for key, metric in _everything())
    rest = count - sum(better)
    return f"Of {count} figures {names[0]} is better in {better[0]}, {names[1]} in {better[1]}; {rest} are the same."


def apart(sides: Sequence[Evaluation]) -> list[str]:
    """Why two takes' figures cannot simply be held against each other."""
    if _differ([side.about.get("plate_sha256") for side in sides]):
        return ["They are of different plates: their figures say nothing about each other."]
    if _differ([side.hashes.get("camera.npz") for side in sides]):
        return ["They follow different cameras: what differs may come from the path."]
    return []


def _differ(marks: Sequence[Json]) -> bool:
    """Whether known marks are not all one."""
    return None not in marks and any(mark != marks[0] for mark in marks)


def _everything() -> list[tuple[str, Metric]]:
    """All measures, group by group."""
    everything = (*FRAME_METRICS.items(), *TAKE_METRICS.items())
    groups = list(dict.fromkeys(metric.group for _, metric in everything))
    return sorted(everything, key=lambda item: groups.index(item[1].group))


def _means(sides: Sequence[Evaluation], key: str) -> list[float | None]:
    return [side.mean(key) if key in FRAME_METRICS else side.totals.get(key) for side in sides]


def figures(sides: Sequence[Evaluation], names: list[str]) -> str:
    """Every measure of one take or two: means, change, worst frames."""
    body, group = "", ""
    for key, metric in _everything():
        means = _means(sides, key)
        if len(sides) == 1 and means[0] is None:
            continue
        if metric.group != group:
            group = metric.group
            body += f'<tr class="group"><th colspan="6">{html.escape(group)}</th></tr>'
        cells = "".join(
            f'<td class="{mark}">{html.escape(metric.shown(value))}</td>'
            for value, mark in zip(means, _better(means, metric), strict=True)
        )
        if len(means) == 2:
            cells += f"<td>{_change(means[0], means[1], metric)}</td>"
        worst = "".join(f'<td class="faint">{_worst(side, key, metric)}</td>' for side in sides)
        arrow = {"higher": "higher is better", "lower": "lower is better", "neither": ""}[metric.better]
        hint = html.escape(metric.meaning) + (f"; {arrow}" if arrow else "")
        body += f"<tr><th>{html.escape(metric.label)}<small>{hint}</small></th>{cells}{worst}</tr>"
    if len(names) == 1:
        head = "<th>Mean of the frames</th><th>Mean</th><th>Worst</th>"
    else:
        head = f'<th>Mean of the frames</th><th class="a">{names[0]}</th><th class="b">{names[1]}</th><th>Change</th>'
        head += '<th class="a">Worst</th><th class="b">Worst</th>'
    return f'<table class="figures"><tr>{head}</tr>{body}</table>'


def _better(means: Sequence[float | None], metric: Metric) -> Sequence[str]:
    """CSS class of each mean."""
    neither = [""] * len(means)
    if len(means) < 2 or means[0] is None or means[1] is None or metric.better == "neither":
        return neither
    one, other = means[0], means[1]
    if abs(one - other) <= ALIKE * max(abs(one), abs(other)) or metric.shown(one) == metric.shown(other):
        return neither
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


def angles(sides: Sequence[Evaluation], names: list[str]) -> str:
    """Means of the ranges of the paper which any take reaches into."""
    tables = [side.ranges() for side in sides]
    ranges = list(dict.fromkeys(limits for table in tables for limits in table))
    if len(ranges) == 1:
        who = "Both stay" if len(sides) == 2 else "It stays"
        return f"<p>{who} within {ranges[0]} degrees of the source view: the means above are those of this range.</p>"
    head = "".join(
        f'<th class="{kind}">{limits}°<small>{name if len(names) > 1 else ""}</small></th>'
        for limits in ranges
        for name, kind in zip(names, "ab", strict=False)
    )
    body = ""
    for key, metric in FRAME_METRICS.items():
        if all(side.mean(key) is None for side in sides):
            continue
        cells = "".join(
            f"<td>{html.escape(metric.shown(table.get(limits, {}).get(key)))}</td>"
            for limits in ranges
            for table in tables
        )
        body += f"<tr><th>{html.escape(metric.label)}</th>{cells}</tr>"
    note = "Up to these angles between the cameras' lines of sight. What no take reaches is left out."
    return f'<p>{note}</p><table class="figures"><tr><th></th>{head}</tr>{body}</table>'


def about(sides: Sequence[Evaluation], names: list[str]) -> str:
    """What each take was made with."""
    body = ""
    for key in SHOWN_ABOUT:
        values = [_text(side.about.get(key)) for side in sides]
        mark = ' class="differs"' if len(set(values)) > 1 else ""
        label = html.escape(key.replace("_", " "))
        body += f"<tr{mark}><th>{label}</th>{''.join(f'<td>{value}</td>' for value in values)}</tr>"
    head = "".join(f'<th class="{kind}">{name}</th>' for name, kind in zip(names, "ab", strict=False))
    return f'<table class="about"><tr><th></th>{head}</tr>{body}</table>'


def _text(value: Json) -> str:
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, dict):
        return "<br>".join(f"{html.escape(name)}: {_text(item)}" for name, item in value.items())
    if isinstance(value, list):
        return html.escape(" x ".join(str(item) for item in value))
    return html.escape(str(value))


def blank(sides: Sequence[Evaluation], names: list[str]) -> str:
    """What was not measured, and why."""
    items = ""
    for key, why in {key: why for side in sides for key, why in side.blank.items()}.items():
        owners = [name for name, side in zip(names, sides, strict=True) if key in side.blank]
        whose = "" if len(owners) == len(sides) else f" ({owners[0]})"
        items += f"<li><b>{html.escape(key)}</b>: {html.escape(why)}{whose}</li>"
    return f"<ul>{items}</ul>"
