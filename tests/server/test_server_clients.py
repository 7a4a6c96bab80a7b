# SPDX-License-Identifier: Apache-2.0
"""Clients that are not the server's own user: pairing, what they may do, and being refused again."""

import os
import stat
from dataclasses import replace

import psutil
import pytest
import zmq
from conftest import new_id, until

from ex4d.errors import InputError
from server import clients as clients_module
from server.clients import MOST_GUESSES, Clients
from server.failures import NotYours
from server.listening import listen_endpoint
from shared_protocol import pairing
from shared_protocol.client import Client
from shared_protocol.connection import read_connection
from shared_protocol.errors import BadPairingText, NotPaired, RemoteError
from shared_protocol.messages import (
    AddClient,
    ArtifactRef,
    AskClients,
    BeginPairing,
    BlobPlace,
    ClientList,
    JoinServer,
    KnownClient,
    PairingCode,
    PlaceBlob,
    RemoveClient,
)


def new_key():
    return [key.decode() for key in zmq.curve_keypair()]


def pairing_line(client, lifetime_s=60.0):
    code = client.request(BeginPairing(lifetime_s), PairingCode)
    return pairing.pairing_text(code.endpoint, code.server_key, code.code)


@pytest.fixture
def anna(server, monkeypatch, tmp_path):
    """A paired client with a state folder of her own."""
    server.start()
    admin = server.client()
    monkeypatch.setenv("EX4D_HOME", str(tmp_path / "annas"))
    path = pairing.join(pairing_line(admin), "anna")
    assert os.name != "posix" or stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(pairing.paired_servers().values()) == [path]
    monkeypatch.setenv("EX4D_HOME", str(server.home))
    return server.client(read_connection(path))


def code_of(call, *arguments):
    with pytest.raises(RemoteError) as caught:
        call(*arguments)
    return caught.value.code


def test_a_paired_client_works_like_the_servers_own(server, anna, tmp_path):
    (tmp_path / "plate.mov").write_bytes(os.urandom(5_000_000))
    artifact = anna.upload(tmp_path / "plate.mov")
    job_id = new_id()
    anna.submit(job_id, "copy", {}, {"plate.mkv": (artifact, "plate.mov")})
    anna.subscribe(job_id)
    heard = []
    until(lambda: heard.extend(anna.poll(0.1)) or any(getattr(each, "name", "") == "done" for each in heard))
    anna.download(artifact, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "plate.mov").read_bytes()


def test_a_paired_client_survives_a_restart_of_the_server(server, anna):
    server.kill()
    server.start()
    again = server.client(replace(anna.connection, endpoint=server.connection().endpoint))
    assert again.status().queued == 0


def test_others_jobs_and_the_server_itself_are_out_of_reach(server, anna):
    admin = server.follower()
    job_id = admin.submit("steps", {"n": 100_000})
    admin.wait_progress(job_id)
    assert code_of(anna.cancel, job_id) == "not_yours"
    assert code_of(anna.prioritise, job_id, 5) == "not_yours"
    assert code_of(anna.stop_server) == "not_yours"
    assert code_of(anna.log, job_id) == "not_yours"
    for request in (AskClients(), BeginPairing(), AddClient(new_key()[0], "eve"), RemoveClient("anna")):
        assert code_of(anna.request, request, ClientList) == "not_yours"
    assert code_of(anna.request, PlaceBlob(ArtifactRef("0" * 64, 5)), BlobPlace) == "not_yours"
    (job,) = [each for each in anna.jobs() if each.job_id == job_id]
    assert not job.mine
    mine = new_id()
    anna.submit(mine, "steps", {"n": 1}, {})
    assert anna.cancel(mine).state == "cancelled"
    admin.client.cancel(job_id)


def test_a_removed_client_gets_nothing_more_even_over_an_open_connection(server, anna):
    admin = server.client()
    job_id = new_id()
    anna.submit(job_id, "steps", {"n": 100_000}, {})
    anna.subscribe(job_id)
    until(lambda: anna.poll(0.1))
    assert admin.request(RemoveClient("anna"), ClientList).clients == ()
    assert code_of(anna.status) == "not_paired"
    anna.poll(0.3)
    assert not anna.poll(0.3)
    with pytest.raises(NotPaired):
        server.client(anna.connection).hello()
    assert code_of(admin.request, RemoveClient("anna"), ClientList) == "unknown_client"


def test_a_code_works_once(server, home):
    server.start()
    line = pairing_line(server.client())
    pairing.join(line, "anna")
    with pytest.raises(NotPaired):
        pairing.join(line, "eve")
    assert [each.name for each in server.client().request(AskClients(), ClientList).clients] == ["anna"]


def test_who_knocks_may_only_pair(server):
    connection = server.start()
    public, secret = new_key()
    stranger = replace(connection, client_key=public, client_secret=secret)
    with pytest.raises(NotPaired):
        server.client(stranger).hello()
    pairing_line(server.client())
    knocking = server.client(stranger)
    knocking.hello()
    assert code_of(knocking.status) == "not_paired"
    for _ in range(MOST_GUESSES):
        assert code_of(knocking.request, JoinServer("A" * 16, "eve"), KnownClient) == "not_yours"
    with pytest.raises(NotPaired):
        server.client(stranger).hello()


def test_a_key_can_be_added_by_hand(server):
    connection = server.start()
    public, secret = new_key()
    server.client().request(AddClient(public, "render-01"), KnownClient)
    assert server.client(replace(connection, client_key=public, client_secret=secret)).status()


def listening(server):
    return {c.laddr.ip for c in psutil.Process(server.process.pid).net_connections() if c.status == psutil.CONN_LISTEN}


def test_the_network_is_open_only_while_somebody_may_come(server):
    server.start("--listen", "127.0.0.2:47499")
    admin = server.client()
    admin.hello()
    assert listening(server) == {"127.0.0.1"}
    line = pairing_line(admin)
    assert "/127.0.0.2:47499/" in line
    until(lambda: listening(server) == {"127.0.0.1", "127.0.0.2"})
    with Client(read_connection(pairing.join(line, "anna"))) as anna:
        assert anna.status().queued == 0
    admin.request(RemoveClient("anna"), ClientList)
    until(lambda: listening(server) == {"127.0.0.1"})


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.168.1.5", "tcp://192.168.1.5:47411"),
        ("0.0.0.0:5", "tcp://0.0.0.0:5"),
        ("[::1]:70", "tcp://[::1]:70"),
        ("fe80::1", "tcp://[fe80::1]:47411"),
    ],
)
def test_addresses_to_listen_on(text, endpoint):
    assert listen_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text", ["", "*", "example.com", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:99999", "1.2.3.4:5:6", "[::1"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InputError, match="IP address"):
        listen_endpoint(text)


@pytest.mark.parametrize(
    "text", ["", "ex4d/1.2.3.4:5/KEY", "ex4d/1.2.3.4:5/KEY/CODE", "other/1.2.3.4:5/{}/CODE", "ex4d/a b/{}/C"]
)
def test_a_torn_pairing_line_is_said(text):
    whole = pairing.pairing_text("tcp://1.2.3.4:5", new_key()[0], "CODE").split("/")[2]
    with pytest.raises(BadPairingText):
        pairing.join(text.format(whole), "anna")


def test_names_are_not_taken_twice_and_the_list_survives(tmp_path):
    clients = Clients(tmp_path / "clients.json", "admin")
    first, second = new_key()[0], new_key()[0]
    clients.add(first, "anna")
    clients.add(second, "anna")
    clients.add(second, "anna")
    again = Clients(tmp_path / "clients.json", "admin")
    assert [each.name for each in again.known] == ["anna", "anna-2"]
    assert again.allows(first)
    assert not again.allows(new_key()[0])
    (tmp_path / "clients.json").write_text('{"clients": [{"key": 5}]}')
    assert Clients(tmp_path / "clients.json", "admin").known == ()


def test_a_code_grows_old(tmp_path, monkeypatch):
    clients = Clients(tmp_path / "clients.json", "admin")
    code = clients.begin_pairing(60)
    real = clients_module.time.monotonic()
    monkeypatch.setattr(clients_module.time, "monotonic", lambda: real + 61)
    with pytest.raises(NotYours):
        clients.join(code, new_key()[0], "anna")
