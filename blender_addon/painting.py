# SPDX-License-Identifier: GPL-3.0-or-later
"""How a take's unseen part is painted: what the artist may choose, and how a take job says it."""

# As the library's ENGINES, MODES and limits have them; a test compares.
ENGINE_ITEMS = [
    ("auto", "Best Available", "Wan2.1 + EX-4D where the server has its weights and a GPU for it, else Preview Fill"),
    (
        "preview",
        "Preview Fill",
        "Fills from other frames of the plate and by classical inpainting: quick, on any machine, to judge a move",
    ),
    ("wan", "Wan2.1 + EX-4D", "The EX-4D video model paints what the plate never saw. Needs its weights and a GPU"),
]
QUALITY_ITEMS = [
    ("reference", "Reference", "The EX-4D release's own arithmetic: for comparisons"),
    ("lossless", "Lossless", "Full quality, all steps"),
    ("fp8", "Fast", "8-bit weights: nearly the same picture in less time and memory"),
    ("cached", "Faster", "8-bit weights, and steps that change little are skipped"),
    ("draft", "Draft", "A step-distilled model in 6 steps: to judge a move"),
]
DEFAULT_ENGINE, DEFAULT_QUALITY, DEFAULT_STEPS, DEFAULT_EROSION_PX = "auto", "lossless", 25, 5
MAX_STEPS, MAX_EROSION_PX = 200, 64
MAX_SEED = 2**31 - 1  # that a property holds; the library takes more
PROPERTIES = (
    *("engine", "quality", "use_steps", "steps", "use_erosion", "erosion_px"),
    *("prompt", "negative_prompt", "seed", "use_depth_pass", "use_clean_plate"),
)


def params_of(state):
    """Return the settings of a take job.

    What the artist left alone is not sent: the server's own default holds, and a server that does not know a setting
    yet can still take the job.

    Args:
        state: of the scene, or a planned take.
    """
    params = {"engine": state.engine, "seed": state.seed}
    if state.use_depth_pass:
        params["depth_pass"] = True
    if state.use_clean_plate:
        params["clean_plate"] = True
    if not paints_with_model(state):
        return params
    if state.quality != DEFAULT_QUALITY:
        params["quality"] = state.quality
    if state.use_steps:
        params["steps"] = state.steps
    if state.use_erosion:
        params["erosion_px"] = state.erosion_px
    for name in ("prompt", "negative_prompt"):
        if text := getattr(state, name).strip():
            params[name] = text
    return params


def paints_with_model(state):
    """Tell whether the engine asked for may be a model, which has more settings than the classical fill."""
    return state.engine != "preview"


def copy(source, target):
    """Paint one take as another one, or as the panel says."""
    for name in PROPERTIES:
        setattr(target, name, getattr(source, name))


def settings_of(record) -> dict:
    """Return how a take was painted, as our properties, from its take.json; what they cannot hold is left out."""
    settings = record.get("settings", {})
    found = {"engine": record.get("engine"), "seed": record.get("seed"), "quality": settings.get("quality")}
    for switch, name in (("use_steps", "steps"), ("use_erosion", "erosion_px")):
        found |= {switch: isinstance(settings.get(name), int), name: settings.get(name)}
    found |= {name: settings.get(name) for name in ("prompt", "negative_prompt")}
    limits = {"seed": MAX_SEED, "steps": MAX_STEPS, "erosion_px": MAX_EROSION_PX}
    choices = {"engine": ENGINE_ITEMS, "quality": QUALITY_ITEMS}
    return {
        name: value
        for name, value in found.items()
        if value is not None
        and (name not in limits or (isinstance(value, int) and 0 <= value <= limits[name]))
        and (name not in choices or value in {item[0] for item in choices[name]})
    }
