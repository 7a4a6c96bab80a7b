# SPDX-License-Identifier: Apache-2.0
"""Fetching weights through huggingface_hub from a hub on this machine: going on, checking, refusing."""

import hashlib
import os
import socket
from collections import namedtuple
from pathlib import Path

import pytest
from hub import Hub, serving

from ex4d.errors import Cancelled, LicenceError, MachineError, StorageError
from ex4d.models import MODELS, Model, look
from ex4d.models.download import download
from ex4d.models.record import read_record
from ex4d.models.verify import verify
from ex4d.progress import Progress

pytest.importorskip("huggingface_hub")

LARGE = 30 * 1024 * 1024  # three of the pieces that huggingface_hub hands on
MODEL = Model(
    name="thing",
    repository="owner/thing",
    what="Thing",
    purpose="tests",
    licence="Apache-2.0",
    commercial_use=True,
    files=("config.json", "parts/*.bin"),
    size_gb=None,
)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    files = {
        "config.json": b'{"a": 1}',
        "parts/large.bin": b"PK" + os.urandom(1024) * (LARGE // 1024),
        "README.md": b"not asked for",
        "other/parts/large.bin": b"not asked for",
    }
    monkeypatch.setenv("EX4D_MODELS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ex4d.models.download.REPORT_EVERY_S", 0)
    # What lies inside these files is not what is tested here.
    monkeypatch.setattr("ex4d.models.places.damage", lambda path: None)
    monkeypatch.setattr("ex4d.models.verify.damage", lambda path: None)
    with serving(Hub("owner/thing", files, small=("config.json", "README.md"))) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_exactly_the_files_that_are_wanted_arrive_with_their_record(hub, tmp_path):
    reports: list[Progress] = []
    folder = download(MODEL, progress=reports.append)
    assert folder == tmp_path / "owner" / "thing"
    arrived = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert arrived - {".ex4d-download.lock"} == {"config.json", "parts/large.bin", "ex4d-download.json"}
    assert (folder / "parts" / "large.bin").read_bytes() == hub.files["parts/large.bin"]
    record = read_record(folder, "owner/thing")
    assert record is not None
    assert record.revision == hub.commit
    assert record.files["config.json"].sha256 == hashlib.sha256(hub.files["config.json"]).hexdigest()
    assert look(MODEL).state == "complete"
    assert {(check.how, check.fault) for check in verify(MODEL)} == {("sha256", None)}
    fetching = [report for report in reports if report.stage == "Fetching Thing"]
    assert fetching[-1].i == fetching[-1].n == LARGE + 2 + 8


def test_what_is_complete_is_not_asked_for_again(hub):
    download(MODEL)
    hub.ranges.clear()
    hub.gated = True  # any question would fail
    download(MODEL)
    assert hub.ranges == []


def test_a_connection_that_breaks_goes_on_where_it_broke(hub):
    hub.cut_at = 12 * 1024 * 1024
    folder = download(MODEL)
    assert (folder / "parts" / "large.bin").read_bytes() == hub.files["parts/large.bin"]
    (_, first), (_, second) = [entry for entry in hub.ranges if entry[0] == "parts/large.bin"]
    assert first is None
    assert int(str(second).removeprefix("bytes=").rstrip("-")) > 0


def test_a_stopped_download_keeps_what_has_arrived_and_goes_on_in_the_next_call(hub):
    def stop(report: Progress) -> None:
        if report.stage.startswith("Fetching") and report.i > 15e6:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        download(MODEL, progress=stop)
    assert look(MODEL).state == "partial"
    part = look(MODEL).folder / "parts" / "large.bin.part"
    size = part.stat().st_size
    assert size > 15e6
    hub.ranges.clear()
    folder = download(MODEL)
    assert hub.ranges == [("parts/large.bin", f"bytes={size}-")]
    assert (folder / "parts" / "large.bin").read_bytes() == hub.files["parts/large.bin"]
    assert not part.exists()


def test_a_download_never_mixes_two_versions(hub):
    def stop(report: Progress) -> None:
        if report.stage.startswith("Fetching") and report.i > 15e6:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        download(MODEL, progress=stop)
    hub.commit = "d" * 40  # the old one is gone: what has arrived may belong to another file
    hub.files["parts/large.bin"] = os.urandom(1024) * (LARGE // 1024)
    hub.ranges.clear()
    folder = download(MODEL)
    record = read_record(folder, "owner/thing")
    assert record is not None
    assert record.revision == hub.commit
    assert hub.ranges == [("parts/large.bin", None)]
    assert (folder / "parts" / "large.bin").read_bytes() == hub.files["parts/large.bin"]


def test_what_arrives_damaged_is_removed_and_said(hub):
    hub.spoiled = {"parts/large.bin"}
    with pytest.raises(MachineError, match=r"parts/large\.bin arrived damaged"):
        download(MODEL)
    assert look(MODEL).state == "partial"
    assert not list(look(MODEL).folder.rglob("*.part"))
    hub.spoiled = set()
    assert look(MODEL, download(MODEL)).state == "complete"


def test_files_that_came_by_hand_are_kept_when_they_are_good_and_fetched_when_not(hub, tmp_path):
    folder = tmp_path / "owner" / "thing" / "parts"
    folder.mkdir(parents=True)
    (folder / "large.bin").write_bytes(hub.files["parts/large.bin"])
    download(MODEL)
    assert [name for name, _ in hub.ranges] == ["config.json"]


def test_without_room_nothing_is_fetched(hub, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**10, 10**10 - 10**6, 10**6))
    with pytest.raises(StorageError, match=r"Thing needs 0\.0 GB more .* 0\.0 GB are free"):
        download(MODEL)
    assert hub.ranges == []


def test_a_gated_model_says_where_to_ask_for_it(hub):
    hub.gated = True
    with pytest.raises(MachineError, match=r"huggingface\.co/owner/thing, then log in here with: hf auth login"):
        download(MODEL)


def test_without_a_network_the_error_names_the_place_and_the_other_way(hub, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(MachineError, match=r"does not answer .* copy Thing from another one into"):
        download(MODEL)


def test_a_repository_that_lost_a_file_is_said(hub):
    del hub.files["config.json"]
    with pytest.raises(MachineError, match=r"no longer holds config\.json"):
        download(MODEL)


def test_research_only_models_need_an_accepted_licence(tmp_path):
    with pytest.raises(LicenceError, match="research and education only"):
        download(MODELS["depthcrafter"], folder=Path(tmp_path))
