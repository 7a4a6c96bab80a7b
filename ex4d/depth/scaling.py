# SPDX-License-Identifier: Apache-2.0
"""The step between a source and the shot: z-depth out of whatever the source could say."""

import dataclasses

from ex4d.depth.clip import DepthClip, DepthUnit, DisparityClip
from ex4d.depth.normalise import Known, Normalisation, fit_clip, fitted_depth, reference_depth, unit_disparity
from ex4d.errors import DepthError

REFERENCE_NOTICE = (
    "The disparity was brought to z as the EX-4D release does: the nearest thing at 2.56, the farthest at 10000. "
    "Use the normalisation 'fitted' for true proportions."
)


def scaled(clip: DisparityClip, normalisation: Normalisation, known: Known) -> DepthClip:
    """The z-depth of a clip.

    Args:
        clip: from a source.
        normalisation: the rule.
        known: for `fitted`, what is known about the plate's distances.

    Raises:
        DepthError: what is known does not fit the clip, or is of no use for it.
    """
    kind: DepthUnit
    if normalisation == "reference":
        if known:
            raise DepthError(
                "The normalisation 'reference' uses no known distances. Choose 'fitted', or leave them out."
            )
        depth, kind = reference_depth(unit_disparity(clip.disparity)), "reference"
        notice, numbers = REFERENCE_NOTICE, {}
    else:
        fit = fit_clip(clip.disparity, known, clip.sky, clip.valid)
        depth, kind = fitted_depth(clip.disparity, fit, clip.sky), "relative" if fit.assumed else "metric"
        numbers = {"scale": fit.scale, "offset": fit.offset, "card": fit.card, "how": fit.how}
        notice = f"The scale of the depth comes from {fit.how}."
        if not known:
            notice = (
                f"Nothing is known about this plate's distances. {fit.how.removeprefix('nothing; ').capitalize()}; "
                "give near and far, or one measured distance, for a true scale."
            )
    origin = {field.name: getattr(clip, field.name) for field in dataclasses.fields(clip) if field.name != "disparity"}
    origin["parameters"] = {**clip.parameters, "normalisation": {"rule": normalisation, **numbers}}
    origin["notices"] = (*clip.notices, notice)
    return DepthClip(depth=depth, kind=kind, **origin)
