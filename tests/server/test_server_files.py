# SPDX-License-Identifier: Apache-2.0
"""Files through a real server: resume after a crash, damage, full disks."""

import os
import threading
import time

import pytest
from conftest import PATIENCE_S

from shared_protocol import same_machine, transfer
from shared_protocol.errors import LocalStorage, RemoteError, ServerLost, Stopped, TransferFailed
from shared_protocol.messages import CHUNK_LIMIT, ArtifactRef, BlobState, GetBlob, NameBlob, PutBlob, StatBlob
from shared_protocol.transfer import file_reference

MIB = 1024 * 1024


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.bin"
    path.write_bytes(os.urandom(8 * MIB + 5))
    return path


@pytest.fixture(autouse=True)
def chunks(monkeypatch):
    """Clients send chunks, though they could copy."""
    monkeypatch.setattr(same_machine, "LEAST_BYTES", 2**60)


def test_an_upload_goes_on_where_the_server_died(server, clip, tmp_path):
    server.start()

    def kill_in_the_middle(done, total):
        if done >= 3 * MIB:
            server.kill()

    with pytest.raises(ServerLost):
        server.client().upload(clip, kill_in_the_middle)
    server.start()
    client = server.client()
    stored = client.request(StatBlob(file_reference(clip)), BlobState)
    assert 3 * MIB <= stored.offset < 9 * MIB
    assert not stored.complete
    sent = []
    artifact = client.upload(clip, lambda done, total: sent.append(done))
    assert min(done for done in sent if done) > stored.offset
    client.download(artifact, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == clip.read_bytes()


def test_what_is_there_is_not_sent_again(server, clip):
    server.start()
    client = server.client()
    client.upload(clip)
    sent = []
    client.upload(clip, lambda done, total: sent.append(done))
    assert set(sent) == {0, clip.stat().st_size}


def test_a_stopped_download_goes_on_and_leaves_no_half_file(server, clip, tmp_path):
    server.start()
    client = server.client()
    artifact = client.upload(clip)

    def stop(done, total):
        if done >= 4 * MIB:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        client.download(artifact, tmp_path / "back", stop)
    assert not (tmp_path / "back").exists()
    received = []
    client.download(artifact, tmp_path / "back", lambda done, total: received.append(done))
    assert received[0] == 5 * MIB
    assert (tmp_path / "back").read_bytes() == clip.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "clip.bin", "home"]


def test_an_empty_file_travels(server, tmp_path):
    server.start()
    (tmp_path / "empty").touch()
    client = server.client()
    artifact = client.upload(tmp_path / "empty")
    client.download(artifact, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


def test_wrong_chunks_change_nothing_and_wrong_files_are_dropped(server):
    server.start()
    client = server.client()
    artifact = ArtifactRef("0" * 64, 10)

    def put(offset, data):
        return client.receive(client.send(PutBlob(artifact, offset), data), BlobState)[0]

    assert put(5, b"later").offset == 0
    assert put(0, b"12345").offset == 5
    assert put(0, b"again").offset == 5
    with pytest.raises(RemoteError) as caught:
        put(5, b"67890")
    assert caught.value.code == "hash_mismatch"
    assert client.request(StatBlob(artifact), BlobState).offset == 0
    with pytest.raises(RemoteError) as caught:
        put(0, b"more than was announced")
    assert caught.value.code == "hash_mismatch"
    with pytest.raises(RemoteError) as caught:
        client.request(GetBlob(artifact, 0, 10), BlobState)
    assert caught.value.code == "unknown_artifact"
    assert not list((server.home / "artifacts").iterdir())


def test_a_damaged_file_in_the_store_is_noticed_on_arrival(server, clip, tmp_path):
    server.start()
    client = server.client()
    artifact = client.upload(clip)
    stored = server.home / "artifacts" / artifact.sha256
    with stored.open("r+b") as file:
        file.write(b"rot")
    with pytest.raises(TransferFailed, match="damaged"):
        client.download(artifact, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert not stored.exists()


def test_a_damaged_plate_fails_its_job_and_is_sent_again(server, clip):
    server.start()
    follower = server.follower()
    artifact = follower.client.upload(clip)
    with (server.home / "artifacts" / artifact.sha256).open("r+b") as file:
        file.write(b"rot")
    failed = follower.wait(follower.submit("copy", {}, {"plate": (artifact, "plate.mov")}))
    assert (failed.error.code, "damaged" in failed.error.title) == ("missing_artifact", True)
    follower.client.upload(clip)
    assert follower.wait(follower.submit("copy", {}, {"plate": (artifact, "plate.mov")})).name == "done"


def test_a_damaged_result_is_made_again(server, tmp_path):
    server.start()
    follower = server.follower()
    job_id = follower.submit("steps", {"n": 1})
    output = follower.wait(job_id).outputs[0].artifact
    (server.home / "artifacts" / output.sha256).write_text("finisheD")
    with pytest.raises(TransferFailed, match="damaged"):
        follower.client.download(output, tmp_path / "result.txt")
    again = follower.wait(follower.submit("steps", {"n": 1}))
    assert again.attempt == 1
    follower.client.download(again.outputs[0].artifact, tmp_path / "result.txt")
    assert (tmp_path / "result.txt").read_text() == "finished"


def test_a_full_disk_stops_the_upload_but_not_the_server(server, clip, tmp_path):
    resource = pytest.importorskip("resource", reason="this system has no file size limits")
    limit = 3 * MIB + 100
    server.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    client = server.client()
    with pytest.raises(RemoteError) as caught:
        client.upload(clip)
    assert caught.value.code == "storage"
    assert "full" in caught.value.title
    assert client.request(StatBlob(file_reference(clip)), BlobState).offset % CHUNK_LIMIT == 0
    (tmp_path / "small").write_bytes(b"small")
    assert client.upload(tmp_path / "small").size == 5
    follower = server.follower()
    assert follower.wait(follower.submit("steps", {"n": 1})).name == "done"


def test_a_full_disk_on_our_side_is_said(server, clip, tmp_path, monkeypatch):
    server.start()
    client = server.client()
    artifact = client.upload(clip)
    with pytest.raises(LocalStorage, match="back"):
        client.download(artifact, clip / "back")  # a file where a folder should be
    with pytest.raises(LocalStorage, match="absent"):
        client.upload(tmp_path / "absent")


@pytest.fixture
def early(monkeypatch):
    """Clients begin to send before they have hashed, though the file is small."""
    monkeypatch.setattr(transfer, "EARLY_BYTES", MIB)


class SlowHash:
    """The hash of the file that is uploaded: known when the test says so."""

    def __init__(self) -> None:
        self.wanted, self.done = threading.Event(), threading.Event()

    def __call__(self, path, progress=None):
        self.wanted.wait(PATIENCE_S)
        found = file_reference(path, progress)
        self.done.set()
        return found

    def finish(self) -> None:
        if not self.done.is_set():
            self.wanted.set()
            self.done.wait(PATIENCE_S)
            time.sleep(0.1)  # until the uploading thread can see it


@pytest.fixture
def slow_hash(monkeypatch):
    slow = SlowHash()
    monkeypatch.setattr(transfer, "file_reference", slow)
    return slow


def test_a_file_is_on_its_way_before_its_hash_is_known(server, clip, tmp_path, early, slow_hash):
    server.start()
    client = server.client()
    sent = []

    def watch(done, total):
        sent.append(done)
        if done >= 3 * MIB:
            slow_hash.finish()

    artifact = client.upload(clip, watch)
    assert artifact == file_reference(clip)
    assert sent[:3] == [MIB, 2 * MIB, 3 * MIB]
    assert [path.name for path in (server.home / "artifacts").iterdir()] == [artifact.sha256]
    client.download(artifact, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == clip.read_bytes()


def test_what_the_server_has_ends_the_early_sending(server, clip, early, slow_hash):
    server.start()
    client = server.client()
    other = server.client()
    for offset in range(0, 9 * MIB, MIB):
        chunk = clip.read_bytes()[offset : offset + MIB]
        other.receive(other.send(PutBlob(file_reference(clip), offset), chunk), BlobState)
    sent = []

    def watch(done, total):
        sent.append(done)
        slow_hash.finish()

    artifact = client.upload(clip, watch)
    assert len(sent) < 9
    assert [path.name for path in (server.home / "artifacts").iterdir()] == [artifact.sha256]


def test_of_two_halves_the_longer_one_is_continued(server, clip, early, slow_hash):
    server.start()
    client = server.client()
    artifact, data = file_reference(clip), clip.read_bytes()
    for offset in range(0, 6 * MIB, MIB):
        client.receive(client.send(PutBlob(artifact, offset), data[offset : offset + MIB]), BlobState)
    sent = []

    def watch(done, total):
        sent.append(done)
        slow_hash.finish()

    client.upload(clip, watch)
    named = next(index for index, done in enumerate(sent) if done > 6 * MIB)
    assert named < 6
    assert sent[named] == 7 * MIB
    assert [path.name for path in (server.home / "artifacts").iterdir()] == [artifact.sha256]


def test_an_early_upload_that_broke_off_after_its_naming_goes_on(server, clip, early, slow_hash):
    server.start()

    def kill_near_the_end(done, total):
        slow_hash.finish()
        if done >= 7 * MIB:
            server.kill()

    with pytest.raises(ServerLost):
        server.client().upload(clip, kill_near_the_end)
    server.start()
    assert server.client().request(StatBlob(file_reference(clip)), BlobState).offset >= 7 * MIB
    assert server.client().upload(clip) == file_reference(clip)


def test_only_what_one_has_begun_can_be_named(server, clip):
    server.start()
    client = server.client()
    artifact = file_reference(clip)
    for sent_as in ("0" * 64, artifact.sha256):
        with pytest.raises(RemoteError) as caught:
            client.request(NameBlob(sent_as, artifact), BlobState)
        assert caught.value.code == "unknown_artifact"
    client.receive(client.send(PutBlob(artifact, 0), clip.read_bytes()[:MIB]), BlobState)
    with pytest.raises(RemoteError):
        client.request(NameBlob(artifact.sha256, artifact), BlobState)
    assert client.upload(clip) == artifact
