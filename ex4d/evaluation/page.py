# SPDX-License-Identifier: Apache-2.0
"""One HTML page about a measured take, or two side by side: pictures, figures, plots. It needs no other file."""

import html
from collections.abc import Sequence
from pathlib import Path

import ex4d
from ex4d.evaluation.metrics import FRAME_METRICS
from ex4d.evaluation.page_pictures import pictures
from ex4d.evaluation.page_style import STYLE
from ex4d.evaluation.page_tables import about, angles, apart, blank, figures, summary
from ex4d.evaluation.plots import line_plot
from ex4d.evaluation.side import Side
from ex4d.storage import replacing


def write_page(path: Path, sides: Sequence[Side]) -> None:
    """Write the page.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(page(sides), encoding="utf-8")


def page(sides: Sequence[Side]) -> str:
    """The page of one take or two, as text."""
    names = [html.escape(side.name) for side in sides]
    title = " and ".join(names)
    heading = " and ".join(f'<span class="{kind}">{name}</span>' for kind, name in zip("ab", names, strict=False))
    measured = [side.evaluation for side in sides]
    warnings = [
        f"{name}: the result was painted again after it was measured."
        for name, side in zip(names, sides, strict=True)
        if side.stale
    ]
    warnings += apart(measured)
    told = "".join(f'<p class="warning">{warning}</p>' for warning in warnings)
    told += f"<p>{summary(measured, names)}</p>"
    sections = {
        "Pictures": f'<div class="wide">{pictures(sides)}</div>',
        "Figures": f'<div class="wide">{figures(measured, names)}</div>',
        "By angle": f'<div class="wide">{angles(measured, names)}</div>',
        "Frame by frame": _plots(sides, names),
        "Made with": about(measured, names),
        "Blank": blank(measured, names),
    }
    body = "".join(f"<h2>{name}</h2>{content}" for name, content in sections.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{heading}</h1>{told}{body}"
        f"<footer>ex4d {html.escape(ex4d.__version__)}, ex4d evaluate</footer></body></html>\n"
    )


def _plots(sides: Sequence[Side], names: list[str]) -> str:
    drawn, steady = "", []
    for key, metric in FRAME_METRICS.items():
        columns, classes = [], []
        for side, kind in zip(sides, "ab", strict=False):
            if side.evaluation.mean(key) is not None:
                columns.append(side.evaluation.frames[key])
                classes.append(kind)
        if columns:
            values = {round(value, 9) for column in columns for value in column if value is not None}
            if len(values) == 1:
                steady.append(f"{html.escape(metric.label)} {html.escape(metric.shown(values.pop()))}")
                continue
            unit = f" [{metric.unit}]" if metric.unit else ""
            caption = f"<figcaption>{html.escape(metric.label + unit)}</figcaption>"
            drawn += f"<figure>{caption}{line_plot(columns, classes, 100 if metric.unit == '%' else 1)}</figure>"
    same = f'<p class="same">The same in every frame that has them: {"; ".join(steady)}.</p>' if steady else ""
    return f'{_legend(names)}<div class="plots">{drawn}</div>{same}'


def _legend(names: list[str]) -> str:
    if len(names) == 1:
        return ""
    return f'<p class="legend"><span class="a">{names[0]}</span> <span class="b">{names[1]}</span></p>'
