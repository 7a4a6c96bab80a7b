# SPDX-License-Identifier: GPL-3.0-or-later
"""The running side of the add-on: the server connection, the job under way, and slow work cut into slices.

All network and disk work happens in BackgroundClient's thread. `drain` hands its events to the main thread; a timer
calls it in the graphical Blender, a script calls it (or `wait`) where no timers run. Nothing here is saved or undone.
"""

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import bpy

from . import job_picture, server_words
from .errors import ArtistError
from .shared_protocol.background import BackgroundClient
from .shared_protocol.connection import Connection
from .shared_protocol.errors import NotPaired, ServerLost
from .shared_protocol.events import (
    CallDone,
    CallFailed,
    Connected,
    Disconnected,
    JobCancelled,
    JobDone,
    JobFailed,
    JobProgress,
)

TICK_S = 0.1  # between two looks while a job runs
BUSY_TICK_S = 0.01  # while the mesh is being built
BUDGET_S = 0.008  # of the main thread per look

Files = dict[str, Path]
Slices = Iterator[tuple[int, int]]  # yields (slices done, slices in all); finishes its work when exhausted


class Step(Enum):
    """Whose button was pressed last: the panel that shows what is under way and how it ended."""

    SERVER = auto()
    PLATE = auto()
    RECONSTRUCT = auto()
    COVERAGE = auto()
    TAKE = auto()
    RESULT = auto()
    CHECK = auto()


@dataclass(frozen=True)
class Server:
    """Where jobs go."""

    name: str = ""  # of a paired one; empty: this computer's
    command: list[str] | None = None  # words that run ex4d, to start this computer's; None: it is only looked for
    connection: Connection | None = None  # to a paired one


@dataclass
class RunningJob:
    """What the panel shows of the job under way."""

    job_id: str
    title: str
    on_done: Callable[[Files], None]
    stage: str = "Waiting for the server"
    i: int = 0
    n: int = 0
    eta_s: float | None = None
    message: str = ""
    is_cancelling: bool = False


@dataclass
class SlowWork:
    """Main-thread work in slices."""

    title: str
    slices: Slices
    i: int = 0
    n: int = 0


@dataclass
class PendingCall:
    """A function that the background thread runs for us."""

    title: str
    on_done: Callable
    is_quiet: bool  # nobody asked for it: it keeps no button grey, and its failure is not told
    on_failed: Callable | None = None


class Session:
    """What is under way in this Blender process."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.client: BackgroundClient | None = None
        self.server = Server()
        self.is_connected = False
        self.is_connecting = False
        self.link_error = ""  # why the server is away; goes when it is back
        self.was_lost = False  # it had been there
        self.step: Step | None = None
        self.job: RunningJob | None = None
        self.followed: dict[str, Callable] = {}  # what hears of each job that keeps no button grey
        self.work: SlowWork | None = None
        self.calls: dict[str, PendingCall] = {}
        self.error = ""
        self.failed_code = ""  # of the job that the error is about
        self.notice = ""

    def begin(self, step: Step):
        """A button was pressed: what the one before it had to say is history."""
        self.step, self.error, self.failed_code, self.notice = step, "", "", ""

    @property
    def is_link_error(self) -> bool:
        """True if the error shown is about the connection, not about a step."""
        return bool(self.error) and self.error == self.link_error

    @property
    def is_busy(self) -> bool:
        """True while anything is under way that `drain` will bring forward."""
        return self.is_connecting or self.has_jobs or self.work is not None or bool(self.calls)

    @property
    def has_jobs(self) -> bool:
        """True while the server has jobs of ours."""
        return self.job is not None or bool(self.followed)

    @property
    def activity(self) -> str:
        """What is under way, in a few words; empty when nothing is."""
        if self.job is not None:
            return self.job.title
        if self.work is not None:
            return self.work.title
        return next((call.title for call in self.calls.values() if not call.is_quiet), "")


current = Session()
watchers: list[Callable[[], None]] = []  # called at each look while the server is connected; they must be quick


def begin_connecting():
    """The panel says so from now on."""
    current.is_connecting, current.error = True, ""


def no_way_to_connect(why: str):
    """The server that was asked for cannot even be tried."""
    current.is_connecting, current.was_lost = False, False
    current.error = current.link_error = why


def connect(server: Server):
    """Find a running server, or start this computer's; `Connected` or `Disconnected` tells how it went."""
    is_another = server != current.server and not current.has_jobs  # jobs wait for their own client
    if current.client is None or is_another:
        close(waits=False)
        current.client, current.server = BackgroundClient(server.connection, server.command), server
    begin_connecting()
    current.client.connect()
    _ensure_timer()


def start_job(title: str, kind: str, params: dict, inputs: Files, output_folder: Path, on_done, makes=None):
    """Send a job; `on_done(files)` runs on the main thread when its files have arrived."""
    job_id = current.client.run_job(kind, params, inputs, output_folder, makes=makes)
    current.job = RunningJob(job_id, title, on_done)
    _ensure_timer()


def follow_job(job_id: str, on_event, kind: str, params: dict, inputs: Files, output_folder: Path, makes=None):
    """Send a job beside others, or pick it up again by its id; `on_event` hears of it until `unfollow`."""
    current.followed[job_id] = on_event
    current.client.run_job(kind, params, inputs, output_folder, job_id, makes)
    _ensure_timer()


def unfollow(job_id: str):
    """A followed job has ended."""
    current.followed.pop(job_id, None)


def cancel_job():
    """Ask the server to stop the job under way."""
    current.job.is_cancelling = True
    current.client.cancel(current.job.job_id)


def call(title: str, function, *arguments, on_done, is_quiet=False, on_failed=None):
    """Run a slow function (reading, writing) in the background; `on_done(result)` follows on the main thread.

    Args:
        is_quiet: it keeps no button grey, and its failure is told to `on_failed(error)` only.
    """
    if current.client is None:  # reading and writing need no server
        current.client = BackgroundClient(None, None)
    current.calls[current.client.call(function, *arguments)] = PendingCall(title, on_done, is_quiet, on_failed)
    _ensure_timer()


def ask_estimate(makes, params: dict, on_done, on_failed):
    """Ask the server what a take would need: `on_done(estimate)`, or `on_failed(error)` when it cannot tell."""
    call_id = current.client.estimate(makes, params)
    current.calls[call_id] = PendingCall("Estimate", on_done, is_quiet=True, on_failed=on_failed)
    _ensure_timer()


def start_work(title: str, slices: Slices):
    """Do main-thread work slice by slice. Work of the same kind that is still under way is dropped for it."""
    current.work = SlowWork(title, slices)
    _ensure_timer()


@contextmanager
def undo_step(message: str):
    """Make changes from a timer one step of the artist's undo: without it they vanish with the next Ctrl-Z."""
    _push_undo(f"Before {message}")
    yield
    _push_undo(message)


def _push_undo(message):
    windows = bpy.context.window_manager.windows
    if not windows:
        return
    with bpy.context.temp_override(window=windows[0]):  # a timer has no window of its own
        if bpy.ops.ed.undo_push.poll():
            bpy.ops.ed.undo_push(message=message)


def drain(budget_s: float = BUDGET_S) -> bool:
    """Handle what has arrived and do some slow work; return True while there is more to come."""
    deadline = time.monotonic() + budget_s
    changed = False
    if current.client is not None:
        for event in current.client.poll(budget_s):
            _guarded(_handle, event)
            changed = True
    while current.work is not None:
        _guarded(_advance, current.work)
        changed = True
        if time.monotonic() >= deadline:
            break
    if current.is_connected:
        for watcher in watchers:
            _guarded(watcher)
    if changed:
        _redraw()
    return current.is_busy


def wait(timeout_s: float) -> bool:
    """Drain until nothing is under way; False if that takes longer than the timeout. For scripts without a window."""
    deadline = time.monotonic() + timeout_s
    while drain():
        if time.monotonic() > deadline:
            return False
        if current.work is None:
            time.sleep(BUDGET_S)
    return True


def _guarded(function, *arguments):
    """Show the artist what went wrong: an exception that leaves a timer would end it silently."""
    try:
        function(*arguments)
    except ArtistError as error:
        current.error = str(error)
    except Exception as error:  # the boundary to Blender's event loop
        traceback.print_exc()
        current.error = f"Unexpected {type(error).__name__}: {error}. The console holds the details."


def _advance(work: SlowWork):
    try:
        work.i, work.n = next(work.slices)
    except StopIteration:
        if current.work is work:
            current.work = None
    except BaseException:
        current.work = None
        raise


def _handle(event):
    match event:
        case Connected():
            current.is_connected, current.is_connecting = True, False
            if current.is_link_error:
                current.error = ""
        case Disconnected():
            current.is_connected = current.is_connecting = False
            current.was_lost = event.code == ServerLost.code
            hint = server_words.what_to_do(event, current.server, current.has_jobs)
            current.error = current.link_error = f"{event.title.rstrip('.')}. {hint}"
        case CallDone(call_id=call_id, result=result):
            current.calls.pop(call_id).on_done(result)
        case CallFailed(call_id=call_id, error=error):
            failed = current.calls.pop(call_id)
            if failed.on_failed is not None:
                failed.on_failed(error)
            if not failed.is_quiet:
                current.error = str(error) if isinstance(error, ArtistError) else f"{failed.title}: {error}"
        case _ if event.job_id in current.followed:
            current.followed[event.job_id](event)
        case _ if current.job is None or event.job_id != current.job.job_id:
            pass  # the late word of a job that has ended
        case JobProgress():
            current.job.stage, current.job.i, current.job.n = event.stage, event.i, event.n
            current.job.eta_s, current.job.message = event.eta_s, event.message
            if event.preview is not None:
                job_picture.show(event.preview)
        case JobDone(files=files):
            _end_job().on_done(files)
        case JobFailed():
            _end_job()
            current.failed_code, current.error = event.code, why_failed(event)
        case JobCancelled():
            current.notice = f"{_end_job().title}: cancelled"


def why_failed(event: JobFailed) -> str:
    """What went wrong with a job, and what to do."""
    if event.code == NotPaired.code:  # the server put this computer off its list meanwhile
        current.is_connected = False
    hint = server_words.FAR_HINTS.get(event.code, event.hint) if current.server.name else event.hint
    return f"{event.title.rstrip('.')}. {hint}"


def _end_job() -> RunningJob:
    job, current.job = current.job, None
    job_picture.clear()
    return job


def _redraw():
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            for region in area.regions:
                # Not the whole view: drawing a large mesh for each word of progress would hold up every click.
                if area.type in {"SEQUENCE_EDITOR", "DOPESHEET_EDITOR"} or (
                    area.type == "VIEW_3D" and region.type == "UI"
                ):
                    region.tag_redraw()


def _tick():
    if not drain():
        return None if current.client is None else 5 * TICK_S
    return BUSY_TICK_S if current.work is not None else TICK_S


def _ensure_timer():
    # Without a window timers never fire, and one still registered at exit crashes or hangs the bpy module.
    if bpy.app.background:
        return
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)  # it may be waiting for its slow idle turn
    bpy.app.timers.register(_tick, first_interval=BUSY_TICK_S, persistent=True)


def close(waits=True):
    """Leave the server and forget everything; jobs there go on.

    Args:
        waits: until the threads have ended, a few seconds at most; else they end by themselves.
    """
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    client = current.client
    current.reset()
    job_picture.clear()
    if client is not None and waits:
        client.close()
    elif client is not None:
        threading.Thread(target=client.close, daemon=True).start()  # it may be waiting for a server's answer
