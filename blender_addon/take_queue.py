# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes on their way to the server and back: any number at a time, each with its own progress and cancel.

What is under way is known here, where undo does not reach it. A file in the take's folder names its job until the
result has arrived: whoever opens the shot later, in another session of Blender too, picks it up again.
"""

import uuid
from dataclasses import dataclass
from functools import partial

import bpy

from . import (
    estimates,
    job_picture,
    painting,
    path_sampling,
    session,
    shots,
    take_files,
    take_list,
    take_requests,
    takes,
)
from .errors import ArtistError, ShotDataError
from .session import Step
from .shared_protocol.events import JobCancelled, JobDone, JobFailed, JobProgress
from .shared_protocol.messages import Pictures
from .shooting import INPUT_ROLES

Key = tuple[str, str]
"""A take: its shot's id and its name."""


@dataclass
class SentTake:
    """How a take that was sent comes along. The fields of progress are those of `session.RunningJob`."""

    job_id: str
    stage: str = "Sending"
    i: int = 0
    n: int = 0
    eta_s: float | None = None
    message: str = ""
    is_cancelling: bool = False
    is_preparing: bool = True  # its camera is being written
    failure: str = ""  # it has ended, and why

    @property
    def is_under_way(self) -> bool:
        return not self.failure and (self.is_preparing or self.job_id in session.current.followed)


sent: dict[Key, SentTake] = {}
_pictured: Key | None = None  # whose picture `job_picture` holds
_looked_with = None  # the client with which jobs were looked for, in the shots of these ids
_looked_for: set[str] = set()


def sent_take(state, name) -> SentTake | None:
    """Return how a take comes along; None for one that was not sent, or has arrived."""
    found = sent.get((state.shot_id, name))
    return found if found is not None and (found.failure or found.is_under_way) else None


def is_under_way(state, name) -> bool:
    """Tell whether the server has a take, or is about to get it."""
    found = sent_take(state, name)
    return found is not None and found.is_under_way


def unlisted(state) -> list[str]:
    """Return the takes under way that the list has no line for: the artist undid it. They still arrive."""
    listed = {item.name for item in state.takes}
    return [
        name for shot_id, name in sent if shot_id == state.shot_id and name not in listed and is_under_way(state, name)
    ]


def has_picture(state, name) -> bool:
    """Tell whether the picture that is kept is of this take."""
    return _pictured == (state.shot_id, name)


# Sending


def render(context):
    """Send the next take, with the scene's camera.

    Raises:
        CameraPathError: the camera cannot be sent; nothing was changed.
        ShotDataError: the shot's files are missing, or the take exists.
    """
    scene, state = context.scene, context.scene.ex4d
    name = shots.safe_name(state.take_name)
    known = take_list.find(state, name)
    if (takes.take_folder(scene, name) / take_files.RECORD).exists() or (known is not None and not known.is_planned):
        raise ShotDataError(f"Take {name} exists already. Choose another name.")
    if known is not None:
        raise ShotDataError(f"Take {name} is planned already: render it from the list, or choose another name.")
    frames = range(scene.frame_start, scene.frame_end + 1)
    inputs, sampled = _inputs(scene), _sampled(context, frames, None)
    item = take_list.plan(scene, name)
    _send(scene, item, inputs, sampled)


def planned(state):
    """Return the names of the takes that wait to be sent."""
    return [item.name for item in state.takes if item.is_planned and not is_under_way(state, item.name)]


def render_planned(context):
    """Send all planned takes, one in each slice of the main thread's time."""
    state = context.scene.ex4d
    names = planned(state)
    for name in names:
        sent.pop((state.shot_id, name), None)  # how it failed before
    session.start_work("Sending the takes", _slices(context.scene, names))


def _slices(scene, names):
    shot_id = scene.ex4d.shot_id
    for number, name in enumerate(names):
        yield number, len(names)
        scene = shots.scene_of(shot_id)
        item = take_list.find(scene.ex4d, name) if scene is not None else None  # the artist may have undone it
        if item is None:
            continue
        try:
            _check(scene, item)
            sampled = None
            if not item.path_of:
                sampled = _sampled(bpy.context, range(item.frame_start, item.frame_end + 1), item.camera)
            _send(scene, item, _inputs(scene), sampled)
        except ArtistError as error:  # the others are sent all the same
            sent[shot_id, name] = SentTake("", failure=str(error))


def _check(scene, item):
    if bpy.context.scene is not scene:
        raise ShotDataError(f"Scene {scene.name} is not the one on the screen. Go back to it, then render again.")
    if shots.safe_name(item.name) != item.name:
        raise ShotDataError("A take's name may have letters, digits, dots, dashes and underscores. Rename it.")
    if item.camera is not None and not shots.in_scene(scene, item.camera):
        raise ShotDataError(f"The take's camera {item.camera.name} was deleted. Choose another one.")
    if [known.name for known in scene.ex4d.takes].count(item.name) > 1:
        raise ShotDataError(f"Two takes are called {item.name}. Rename one.")
    if (takes.take_folder(scene, item.name) / take_files.RECORD).exists():
        raise ShotDataError(f"Take {item.name} lies beside the shot already. Rename this one.")


def _inputs(scene):
    return {role: shots.shot_file(scene, role) for role in INPUT_ROLES}


def _sampled(context, frames, camera):
    state = context.scene.ex4d
    plate = state.plate_start, state.plate_frames
    return path_sampling.sample_camera_path(context, state.root, frames, *plate, hide=[state.mesh], camera=camera)


def _send(scene, item, inputs, sampled):
    """Write the camera and the request in the background, then send the job.

    Args:
        sampled: None to shoot along the path of the take that `item.path_of` names.
    """
    key, folder = (scene.ex4d.shot_id, item.name), takes.take_folder(scene, item.name)
    found = sent[key] = SentTake(uuid.uuid4().hex)
    params = {"name": item.name, "raster": "auto", **painting.params_of(item)}
    request = {"job_id": found.job_id, "server": session.current.server.name, "params": params}
    if sampled is None:
        path = takes.take_folder(scene, item.path_of)
        arguments = take_requests.write_request, folder, request, partial(take_requests.copy_path, path)
    else:
        arguments = (
            take_requests.write_request,
            folder,
            request,
            partial(take_requests.write_path, sampled, item.frame_start),
        )
    on_done, on_failed = partial(_submit, key, folder, inputs), partial(_fail, key)
    session.call("Writing the camera", *arguments, on_done=on_done, is_quiet=True, on_failed=on_failed)


def _submit(key, folder, inputs, request):
    found = sent.get(key)
    if found is None or found.job_id != request["job_id"]:
        return
    found.is_preparing = False
    if found.is_cancelling or session.current.client is None:
        _forget(key, folder)
        return
    files = {**inputs, "camera.npz": folder / "camera.npz"}
    makes = Pictures(*request["makes"])
    hear = partial(_hear, key, folder)
    session.follow_job(found.job_id, hear, "take", request["params"], files, folder, makes)


def cancel(state, name):
    """Stop a take; what was rendered of it is dropped, and it is planned again."""
    found = sent[state.shot_id, name]
    found.is_cancelling = True
    if not found.is_preparing:
        session.current.client.cancel(found.job_id)


# Hearing


def _hear(key, folder, event):
    global _pictured
    found = sent[key]
    match event:
        case JobProgress():
            found.stage, found.i, found.n = event.stage, event.i, event.n
            found.eta_s, found.message = event.eta_s, event.message
            if event.preview is not None and (_pictured in (None, key) or _is_selected(key)):
                job_picture.show(event.preview)
                _pictured = key
        case JobDone():
            _forget(key, folder)
            estimates.take_was_done()
            scene = shots.scene_of(key[0])
            if scene is not None:
                scene.ex4d.property_unset("coverage_check")  # the take tells its own
            takes.load(key[0], folder)
        case JobFailed():
            _forget(key, folder)
            _fail(key, session.why_failed(event))
            session.current.failed_code = event.code
        case JobCancelled():
            _forget(key, folder)
            session.current.notice = f"{key[1]}: cancelled"


def _is_selected(key):
    scene = shots.scene_of(key[0])
    item = take_list.selected(scene.ex4d) if scene is not None else None
    return item is not None and item.name == key[1]


def _fail(key, why):
    sent[key] = SentTake("", failure=str(why))
    session.current.error = f"{key[1]}: {why}"


def _forget(key, folder):
    """A take has ended: nobody has to pick it up any more."""
    global _pictured
    session.unfollow(sent.pop(key).job_id)
    if _pictured == key:
        _pictured = None
        job_picture.clear()
    session.call("Tidying up", take_requests.forget, folder, on_done=lambda _: None, is_quiet=True)


# Picking up again


def watch():
    """Follow the jobs of earlier sessions again. Called at each look while the server is connected."""
    global _looked_with
    if _looked_with is not session.current.client:
        _looked_with = session.current.client
        _looked_for.clear()
    for scene in bpy.data.scenes:
        state = scene.ex4d
        if state.is_reconstructed and state.shot_id not in _looked_for:
            _looked_for.add(state.shot_id)
            on_done = partial(_pick_up, state.shot_id)
            session.call(
                "Looking for jobs",
                take_requests.read_requests,
                shots.takes_folder(scene),
                on_done=on_done,
                is_quiet=True,
            )


def _pick_up(shot_id, requests):
    scene = shots.scene_of(shot_id)
    if scene is None or session.current.client is None:
        return
    for folder, request in requests:
        key = shot_id, folder.name
        is_elsewhere = request["server"] != session.current.server.name
        if is_elsewhere or (key in sent and sent[key].is_under_way):
            continue
        inputs = _inputs(scene)
        if take_list.find(scene.ex4d, folder.name) is None:
            with session.undo_step("Find Take"):
                item = scene.ex4d.takes.add()
                item.name, item.is_planned, item.path_of = folder.name, True, folder.name
        sent[key] = SentTake(request["job_id"], stage="Looking for the job")
        _submit(key, folder, inputs, request)
        session.current.step = session.current.step or Step.RESULT


def register():
    session.watchers.append(watch)


def unregister():
    global _pictured, _looked_with
    session.watchers.remove(watch)
    sent.clear()
    _pictured = _looked_with = None
