# SPDX-License-Identifier: Apache-2.0
"""Files between a client and a server of the same user on one machine are copied on the disk, and checked."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from shared_protocol import same_machine
from shared_protocol.errors import RemoteError, Stopped
from shared_protocol.messages import AdoptBlob, ArtifactRef, BlobData, BlobPlace, BlobState, GetBlob, PlaceBlob, PutBlob
from shared_protocol.transfer import file_reference


@pytest.fixture
def clip(tmp_path, monkeypatch):
    monkeypatch.setattr(same_machine, "LEAST_BYTES", 0)
    path = tmp_path / "clip.bin"
    path.write_bytes(os.urandom(9_000_000))
    return path


def types_sent(client, monkeypatch):
    sent, real_send = [], client.send

    def send(message, binary=None):
        sent.append(type(message))
        return real_send(message, binary)

    monkeypatch.setattr(client, "send", send)
    return sent


def test_files_are_copied_both_ways(server, clip, tmp_path, monkeypatch):
    server.start()
    client = server.client()
    sent = types_sent(client, monkeypatch)
    artifact = client.upload(clip)
    client.download(artifact, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == clip.read_bytes()
    assert not {PutBlob, GetBlob} & set(sent)
    assert [path.name for path in (server.home / "artifacts").iterdir()] == [artifact.sha256]


@pytest.mark.parametrize("wrong", ["token", "folder"])
def test_a_client_on_another_machine_sends_chunks(server, clip, tmp_path, monkeypatch, wrong):
    server.start()
    client = server.client()
    real_place = same_machine._place

    def place(*arguments):
        found = real_place(*arguments)
        path = Path(found.path)
        return replace(found, token="0" * 32) if wrong == "token" else replace(found, path=f"/elsewhere{path}")

    monkeypatch.setattr(same_machine, "_place", place)
    sent = types_sent(client, monkeypatch)
    artifact = client.upload(clip)
    assert PutBlob in sent
    if wrong == "folder":
        client.download(artifact, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == clip.read_bytes()
        assert GetBlob in sent


def test_what_is_not_what_was_announced_is_dropped(server, clip):
    server.start()
    client = server.client()
    announced = ArtifactRef("0" * 64, clip.stat().st_size)
    place = client.request(PlaceBlob(announced), BlobPlace)
    assert Path(place.path).read_text() == place.token
    Path(place.path).write_bytes(clip.read_bytes())
    with pytest.raises(RemoteError) as caught:
        client.request(AdoptBlob(announced, place.token), BlobState)
    assert caught.value.code == "hash_mismatch"
    assert not list((server.home / "artifacts").iterdir())


@pytest.mark.skipif(os.name != "posix", reason="symbolic links are a matter of POSIX")
def test_a_link_is_no_file(server, clip):
    server.start()
    client = server.client()
    artifact = file_reference(clip)
    place = client.request(PlaceBlob(artifact), BlobPlace)
    Path(place.path).unlink()
    Path(place.path).symlink_to(clip)
    with pytest.raises(RemoteError, match="not what was announced"):
        client.request(AdoptBlob(artifact, place.token), BlobState)
    assert clip.exists()


def test_a_stopped_copy_leaves_nothing_that_counts(server, clip, tmp_path):
    server.start()
    client = server.client()

    def stop(done, total):
        if done:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        client.upload(clip, stop)
    assert not client.request(PlaceBlob(file_reference(clip)), BlobPlace).complete
    artifact = client.upload(clip)
    with pytest.raises(Stopped):
        client.download(artifact, tmp_path / "back", stop)
    assert not (tmp_path / "back").exists()
    client.download(artifact, tmp_path / "back")
    data, _ = client.receive(client.send(GetBlob(artifact, 0, 10)), BlobData)
    assert data.artifact == artifact
