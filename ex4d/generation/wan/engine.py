# SPDX-License-Identifier: Apache-2.0
"""Wan2.1 with EX-4D as an engine. torch is first imported when a painter is lent."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ex4d.camera import CameraPath
from ex4d.conditioning import Conditioning
from ex4d.document import Json
from ex4d.generation.engine import Painted
from ex4d.generation.options import MAX_SEED, GenerateOptions, Lora, lora
from ex4d.generation.wan.availability import need_wan
from ex4d.generation.wan.follower import Follower, Show
from ex4d.generation.wan.framing import into_take
from ex4d.generation.wan.memory_plan import Window
from ex4d.generation.wan.modes import MODES, Mode
from ex4d.generation.wan.preparation import Limits, Work, prepared
from ex4d.generation.wan.settings import NEGATIVE_PROMPT, PROMPT, PaintSettings
from ex4d.generation.wan.time_left import LOADING, TimeLeft
from ex4d.generation.wan.windows import paint_spans
from ex4d.licence import allowed_by_all
from ex4d.models import MODELS
from ex4d.progress import Progress, ProgressCallback, track
from ex4d.shot import Shot

EROSION_PX = 5  # the middle of the release's random 2 to 8
PREVIEW_INTERVAL_S = 1.0

OnPreview = Callable[[int, Any], None]


class Painter(Protocol):
    """What paints one window: `pipeline.WanPipeline`."""

    def paint(
        self,
        color: NDArray[np.uint8],
        mask: NDArray[np.bool_],
        settings: PaintSettings,
        progress: ProgressCallback | None = None,
        on_preview: OnPreview | None = None,
    ) -> NDArray[np.uint8]:
        """Color RGB [F, h, w, 3] and mask [F, h, w] to RGB [F, h, w, 3]; previews are (step, clean latents)."""


@dataclass(frozen=True)
class Loaded:
    """A painter, ready, and what has to be said of it."""

    painter: Painter
    notices: tuple[str, ...] = ()
    settings: dict[str, Json] = field(default_factory=dict)  # weights, machine and versions, for take.json
    show: Show | None = None  # previews sharper than the latents themselves


Expect = Callable[[float | None], None]
"""Told how many seconds a window will take; None: nobody knows."""

Load = Callable[
    [PaintSettings, Window, GenerateOptions, ProgressCallback | None, Expect], AbstractContextManager[Loaded]
]
"""Lends a painter for windows of one size; what goes wrong inside the block leaves nothing half done."""


def _load(
    settings: PaintSettings, window: Window, options: GenerateOptions, progress: ProgressCallback | None, expect: Expect
) -> AbstractContextManager[Loaded]:
    if progress is not None and "diffsynth" not in sys.modules:
        progress(Progress(LOADING, 0, 0))  # to import it takes seconds, more where the disk is cold
    from ex4d.generation.wan.resident import lent_painter

    return lent_painter(settings, window, options, progress, expect)


class WanEngine:
    """Paints what the plate never saw with Wan2.1-I2V-14B-480P and the EX-4D adapter."""

    name = "wan"
    label = "Wan2.1 + EX-4D"
    licence = f"Wan2.1: {MODELS['wan'].licence}; EX-4D: {MODELS['ex4d'].licence}"
    commercial_use = allowed_by_all(MODELS["wan"].commercial_use, MODELS["ex4d"].commercial_use)

    def __init__(
        self, load: Load = _load, need: Callable[[Mode, Sequence[Lora]], None] = need_wan, limits: Limits | None = None
    ) -> None:
        """Take the ways to load and to check the machine; neither is used before `generate`."""
        self._load, self._need, self._limits = load, need, limits or Limits()

    def need(self, options: GenerateOptions) -> None:
        """See `Engine.need`: packages, weights, LoRAs and a GPU; not yet whether its memory is enough."""
        self._need(MODES[options.quality], [lora(text) for text in options.loras])

    def generate(
        self,
        shot: Shot,
        cameras: CameraPath,
        conditioning: Conditioning,
        options: GenerateOptions,
        progress: ProgressCallback | None = None,
    ) -> Painted:
        """See `Engine.generate`. Every pixel is painted anew, those that the plate shows after its example.

        Raises:
            MachineError: packages, weights or a GPU are missing, or its memory is too small.
            InputError: the camera never sees the plate, or the options do not fit.
        """
        self.need(options)
        settings = paint_settings(options)
        work = prepared(shot, cameras, conditioning, settings.mode, self._limits, _without_eta(progress))
        left = TimeLeft(settings.mode, settings.steps, len(work.parts))
        follow = Follower(work, len(cameras), progress, PREVIEW_INTERVAL_S, left)
        with self._load(settings, work.window, options, follow.beside, left.expect) as loaded:
            follow.show = loaded.show

            def paint(number: int, color: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
                # Each window has its own noise; a take of one window has that of its seed.
                own = replace(settings, seed=(settings.seed + number) % (MAX_SEED + 1))
                return loaded.painter.paint(color, mask, own, follow.window(number), follow.on_latents)

            painted = paint_spans(work.color, work.mask, work.parts, paint)[work.lead :]
        frames = [into_take(work.layout, frame) for frame in track(painted, "Scaling the frames", follow.beside)]
        described = _described(settings, options, work) | loaded.settings
        notices = (*work.notices, *loaded.notices, *_lora_notices(options))
        return Painted(np.stack(frames), notices, described, None if options.loras else True)


def _without_eta(progress: ProgressCallback | None) -> ProgressCallback | None:
    """For what is done before the time of the whole can be known."""
    return None if progress is None else lambda report: progress(replace(report, eta_s=None))


def paint_settings(options: GenerateOptions) -> PaintSettings:
    """What the artist chose, with the model's own choices where he left them open."""
    mode = MODES[options.quality]
    release = None if mode.precision == "reference" else EROSION_PX
    return PaintSettings(
        mode=mode,
        steps=options.steps or mode.steps,
        seed=options.seed,
        prompt=PROMPT if options.prompt is None else options.prompt,
        negative_prompt=NEGATIVE_PROMPT if options.negative_prompt is None else options.negative_prompt,
        erosion_px=release if options.erosion_px is None else options.erosion_px,
    )


def _lora_notices(options: GenerateOptions) -> tuple[str, ...]:
    if not options.loras:
        return ()
    return (f"Painted with {', '.join(options.loras)}: look up their licence before paid work.",)


def _described(settings: PaintSettings, options: GenerateOptions, work: Work) -> dict[str, Json]:
    return {
        "quality": settings.mode.name,
        "steps": settings.steps,
        "prompt": settings.prompt,
        "negative_prompt": settings.negative_prompt,
        "erosion_px": settings.erosion_px,
        "loras": list(options.loras),
        "working_size": list(work.layout.working),
        "windows": [[part.start, part.count] for part in work.parts],
        "lead_in": work.lead,
    }
