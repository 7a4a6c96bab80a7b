# SPDX-License-Identifier: Apache-2.0
"""Files through a real server: resume after a crash, damage, full disks."""

import os

import pytest

from shared_protocol import same_machine
from shared_protocol.errors import LocalStorage, RemoteError, ServerLost, Stopped, TransferFailed
from shared_protocol.messages import CHUNK_LIMIT, ArtifactRef, BlobState, GetBlob, PutBlob, StatBlob
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
