# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene's size, rate, colours and range beside those of its plate."""

NTSC = 1.001


def scene_rate(fps: float) -> tuple[int, float]:
    """Return Blender's (fps, fps_base) of a frame rate: 23.976 becomes (24, 1.001)."""
    whole = round(fps)
    if whole and abs(fps - whole) < 1e-3:
        return whole, 1.0
    if abs(round(fps * NTSC) / NTSC - fps) < 5e-3:
        return round(fps * NTSC), NTSC
    return max(1, whole), max(1, whole) / fps


def match_scene(scene) -> str:
    """Give the scene the plate's size, colours and, from a movie, its rate; return what was set, as a sentence."""
    state, render = scene.ex4d, scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = state.plate_width, state.plate_height, 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1.0
    if not is_sequence(state):
        render.fps, render.fps_base = scene_rate(state.plate_fps)
    # AgX and Filmic would re-grade the plate: its colours are final.
    scene.view_settings.view_transform = "Standard"
    whose = " (the scene's: pictures have none)" if is_sequence(state) else ""
    size, rate = f"{state.plate_width} x {state.plate_height}", f"{plate_rate(scene):.6g} fps"
    return f"Scene set from the plate: {size}, {rate}{whose}, view transform Standard."


def differs(scene) -> bool:
    """Tell whether the scene has another size or rate than its plate."""
    state, render = scene.ex4d, scene.render
    share = render.resolution_percentage / 100
    size = int(render.resolution_x * share), int(render.resolution_y * share)
    is_stretched = abs(render.pixel_aspect_x - render.pixel_aspect_y) > 1e-6
    is_faster = not is_sequence(state) and (render.fps, render.fps_base) != scene_rate(state.plate_fps)
    return size != (state.plate_width, state.plate_height) or is_stretched or is_faster


def plate_rate(scene) -> float:
    """Return the plate's frames per second: a movie's own, or the scene's for pictures, which have none."""
    return scene.render.fps / scene.render.fps_base if is_sequence(scene.ex4d) else scene.ex4d.plate_fps


def is_sequence(state) -> bool:
    """Tell whether the plate is pictures."""
    return state.plate_clip is not None and state.plate_clip.source == "SEQUENCE"


def set_range(scene, cut: range | None) -> str:
    """Let the scene play the plate, or the part of it that an edit uses; return that as a sentence."""
    state = scene.ex4d
    film = range(state.film_start, state.film_start + state.film_frames)
    used = film if cut is None else range(max(cut.start, film.start), min(cut.stop, film.stop)) or film
    scene.frame_start, scene.frame_end = used[0], used[-1]
    scene.frame_set(used[0])
    state.use_scene_range = len(used) < len(film)
    if not state.use_scene_range:
        return f"Frames {used[0]} to {used[-1]}."
    return (
        f"Frames {used[0]} to {used[-1]}, as the strip is cut, of {film[0]} to {film[-1]}. Only these and "
        "their handles are reconstructed."
    )
