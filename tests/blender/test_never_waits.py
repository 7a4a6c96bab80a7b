# SPDX-License-Identifier: Apache-2.0
"""Blender's main thread reads no file and waits for no server, whatever that server does.

Timings are of this machine and its other work: what waits for a network or a disk would wait for seconds, so that the
longest call may take long here, the usual one may not.
"""

import gc
import json
import socket
import statistics
import sys
import threading
import time
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace

import bpy
import pytest
from conftest import PACKAGE
from drawing import draw_panels
from pictures import write_sequence

USUAL_S, LONGEST_S = 0.010, 0.25
ENOUGH = 5  # calls that tell what is usual
WAITS = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "subprocess.", "shutil.")
WAITS += ("socket.connect", "socket.getaddrinfo", "time.sleep")

watched = SimpleNamespace(thread=None, events=[])


def _hear(event, arguments):
    if watched.thread == threading.get_ident() and event.startswith(WAITS):
        watched.events.append((event, *arguments[:1]))


sys.addaudithook(_hear)  # for good: Python has no way to take one out


class Calls(dict):
    """Seconds by what was called."""

    @contextmanager
    def of(self, name):
        watched.thread, start = threading.get_ident(), time.perf_counter()
        try:
            yield
        finally:
            watched.thread = None
            self.setdefault(name, []).append(time.perf_counter() - start)

    def check(self):
        assert watched.events == []
        for name, seconds in self.items():
            usual = statistics.median(seconds)
            assert len(seconds) < ENOUGH or usual < USUAL_S, f"{name} usually takes {usual:.3f} s"
            assert max(seconds) < LONGEST_S, f"{name} took {max(seconds):.3f} s"


@pytest.fixture
def calls(addon):
    draw_panels(addon)  # imports what it needs
    watched.events.clear()
    gc.collect()
    gc.freeze()  # or the collector walks what all the tests before have left, in the middle of a call
    yield Calls()
    gc.unfreeze()


def look(addon, calls, seconds):
    """Do what Blender does while the artist looks on: drain and draw."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with calls.of("drain"):
            addon.session.drain()
        with calls.of("draw"):
            draw_panels(addon)
        time.sleep(0.005)


@contextmanager
def silent_server():
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def dead_server():
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield port


@pytest.mark.parametrize("server", [silent_server, dead_server])
def test_a_server_that_does_not_answer_holds_nothing_up(addon, calls, reconstructed, server, monkeypatch, tmp_path):
    zmq = import_module("zmq")
    connection = import_module(f"{PACKAGE}.shared_protocol.connection")
    monkeypatch.setenv("EX4D_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    public, secret = (key.decode() for key in zmq.curve_keypair())
    with server() as port:
        known = connection.Connection(f"tcp://127.0.0.1:{port}", public, public, secret)
        (tmp_path / "home" / "server.json").write_text(known.to_json(), encoding="utf-8")
        addon.session.close()
        bpy.ops.ex4d.add_camera()
        for command in (["no such program"], ["nor this"]):  # the second click drops the first client
            with calls.of("connect"):
                addon.session.connect(addon.session.Server(command=command))
            look(addon, calls, 0.3)
        for press in (bpy.ops.ex4d.check_coverage, bpy.ops.ex4d.refresh_takes, bpy.ops.ex4d.render_take):
            addon.session.current.is_connecting, addon.session.current.is_connected = False, True  # as it was before
            assert press.poll(), press
            with calls.of(press.idname_py()):
                assert press() == {"FINISHED"}
            look(addon, calls, 0.3)
            if addon.session.current.job is not None:
                with calls.of("cancel"):
                    assert bpy.ops.ex4d.cancel() == {"FINISHED"}
                look(addon, calls, 0.1)
                addon.session.current.job = None  # nobody is there to say that it was cancelled
        if addon.take_queue.is_under_way(reconstructed, "take_01"):  # nobody has refused it
            with calls.of("cancel_take"):
                assert bpy.ops.ex4d.cancel_take(take="take_01") == {"FINISHED"}
            look(addon, calls, 0.1)
            addon.session.current.followed.clear()  # nobody is there to say that it was cancelled
        (tmp_path / "home" / "servers").mkdir()
        (tmp_path / "home" / "servers" / "slow.json").write_text(known.to_json(), encoding="utf-8")
        line = import_module(f"{PACKAGE}.shared_protocol.pairing").pairing_text(known.endpoint, public, "code")
        ops = bpy.ops.ex4d
        for press, said in (
            (ops.choose_server, {}),
            (ops.use_server, {"name": "slow"}),
            (ops.pair_server, {"line": line}),
        ):
            addon.session.current.is_connecting = False
            with calls.of(press.idname_py()):
                assert press(**said) == {"FINISHED"}
            look(addon, calls, 0.3)
        assert addon.servers.known == ["slow"]
        calls.check()


def test_a_flood_of_progress_with_pictures_is_taken_in_small_gulps(addon, calls, reconstructed, tmp_path):
    events = import_module(f"{PACKAGE}.shared_protocol.events")
    picture = bpy.data.images.new("p", 256, 144)
    picture.filepath_raw, picture.file_format = str(tmp_path / "p.jpg"), "JPEG"
    picture.save()
    data = (tmp_path / "p.jpg").read_bytes()
    addon.session.close()
    client = addon.session.current.client = addon.session.BackgroundClient(None, None)
    addon.session.current.is_connected = True
    addon.session.current.begin(addon.session.Step.TAKE)
    addon.session.current.job = addon.session.RunningJob("flood", "take_01", print)
    is_over = threading.Event()

    def flood():
        number = 0
        while not is_over.is_set():
            for _ in range(50):
                number += 1
                client._inbox.put(events.JobProgress("flood", "Painting", number, 10**9, 1.0, "", data))
                client._inbox.put(events.JobProgress(f"another {number}", "Painting", number, 10**9, None, ""))
            time.sleep(0.001)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        look(addon, calls, 1.5)
    finally:
        is_over.set()
        thread.join()
    assert addon.session.current.job.i > 100
    calls.check()


def test_a_far_folder_of_pictures_is_read_elsewhere(addon, calls, saved, fake, scene, plate_frames, monkeypatch):
    folder = write_sequence(saved.parent / "far", plate_frames)
    addon.session.close()

    def slow(function):
        def slowly(*arguments):
            time.sleep(0.4)
            return function(*arguments)

        return slowly

    for module, name in ((addon.picture_files, "sequence"), (addon.job_files, "pack")):
        monkeypatch.setattr(module, name, slow(getattr(module, name)))
    with calls.of("import"):
        assert bpy.ops.ex4d.import_plate(filepath=str(folder / "plate.1002.png")) == {"FINISHED"}
    assert scene.ex4d.shot_id == ""
    look(addon, calls, 0.7)
    assert scene.ex4d.film_frames == len(plate_frames)
    addon.session.current.is_connected = True
    with calls.of("reconstruct"):
        assert bpy.ops.ex4d.reconstruct() == {"FINISHED"}
    look(addon, calls, 0.7)
    assert (addon.shots.shot_folder(scene) / "plate.zip").is_file()
    calls.check()


def test_a_take_list_on_a_slow_disk_is_read_elsewhere(addon, calls, scene, reconstructed, monkeypatch):
    addon.session.close()
    folder = addon.takes.take_folder(scene, "take_01")
    folder.mkdir(parents=True)
    (folder / "take.json").write_text(json.dumps({"schema": 1, "engine": "preview"}), encoding="utf-8")
    read_record = addon.shots.read_record

    def slowly(path):
        time.sleep(0.4)
        return read_record(path)

    monkeypatch.setattr(addon.shots, "read_record", slowly)
    with calls.of("refresh"):
        assert bpy.ops.ex4d.refresh_takes() == {"FINISHED"}
    look(addon, calls, 0.6)
    assert [take.name for take in reconstructed.takes] == ["take_01"]
    calls.check()


def test_the_strip_reads_the_cameras_curves_a_little_at_a_time(addon, calls, scene, reconstructed):
    """A camera with keys on every frame, on a rig of six animated parents, over a long range."""
    bpy.ops.ex4d.add_camera()
    item = scene.camera
    scene.frame_end = 2000
    for number in range(7):
        for frame in range(1, 400, 4):
            item.location.x = frame % 7
            item.keyframe_insert("location", frame=frame)
            item.keyframe_insert("rotation_euler", frame=frame)
        parent = bpy.data.objects.new(f"rig {number}", None)
        scene.collection.objects.link(parent)
        item.parent, item = parent, parent
    bpy.ops.ex4d.key_plate_time(time="RAMP")
    addon.session.close()  # the estimate is to run in a thread
    strip = addon.coverage_strip
    work_s = []  # of the processor: the machine has other work
    for _ in range(5):
        strip.touch()
        strip._shown = None
        waits = 0.0
        while waits is not None:
            start = time.thread_time()
            with calls.of("strip"):
                waits = strip._tick()
            work_s.append(time.thread_time() - start)
            look(addon, calls, 0.02)
    assert addon.session.wait(10)
    assert strip.said(reconstructed)
    assert sorted(work_s)[-2] < USUAL_S, "once Python may have collected its garbage"
    del calls["strip"]  # by the clock it is not timed
    calls.check()


def test_a_long_list_of_takes_is_sent_and_drawn_without_a_wait(addon, calls, reconstructed, monkeypatch, tmp_path):
    monkeypatch.setenv("EX4D_HOME", str(tmp_path / "home"))  # where no server runs
    addon.session.close()
    addon.session.current.client = addon.session.BackgroundClient(None, None)
    addon.session.current.is_connected = True
    bpy.ops.ex4d.add_camera()
    for _ in range(40):
        bpy.ops.ex4d.plan_takes()
    watched.events.clear()
    with calls.of("render planned"):
        assert bpy.ops.ex4d.render_planned() == {"FINISHED"}
    while addon.session.current.work is not None:
        addon.session.drain()  # Blender evaluates the cameras, one take in each look
    while addon.session.current.followed or addon.session.current.calls:
        look(addon, calls, 0.05)
    statuses = {addon.panels.result.status_of(reconstructed, item) for item in reconstructed.takes}
    assert statuses == {"failed"}, "nobody was there"
    for item in reconstructed.takes[:20]:  # as if they had arrived
        item.is_planned, item.summary = False, "10% Preview Fill"
        addon.take_queue.sent.clear()
        addon.take_list.select(reconstructed, item.name)
        with calls.of("draw arrived"):
            draw_panels(addon)
    calls.check()
