# SPDX-License-Identifier: Apache-2.0
"""Who is let in, and what the server does with nonsense."""

import os
import random
import signal
import socket
import stat
from dataclasses import replace

import psutil
import pytest
import zmq
from conftest import new_id

from shared_protocol.connection import Connection
from shared_protocol.errors import (
    BadConnectionFile,
    LinkError,
    NotPaired,
    NotRunning,
    RemoteError,
    TimedOut,
    VersionMismatch,
    WrongServerKey,
)
from shared_protocol.messages import CHUNK_LIMIT, PROTOCOL_VERSION, AskStatus, Hello, ServerState, SubscribeJob, Welcome
from shared_protocol.wire import encode


def other_keys():
    return [key.decode() for key in zmq.curve_keypair()]


def test_an_unknown_client_is_told_so(server):
    connection = server.start()
    public, secret = other_keys()
    with pytest.raises(NotPaired):
        server.client(replace(connection, client_key=public, client_secret=secret)).hello()
    assert server.client().hello().boot_id == connection.boot_id


def test_another_server_is_not_trusted(server):
    connection = server.start()
    with pytest.raises(WrongServerKey):
        server.client(replace(connection, server_key=other_keys()[0])).hello()


@pytest.mark.parametrize("damage", [{"endpoint": "nowhere"}, {"server_key": "~" * 40}, {"client_secret": "ü" * 40}])
def test_a_damaged_connection_is_said(server, damage):
    public, secret = other_keys()
    with pytest.raises(BadConnectionFile):
        server.client(replace(Connection("tcp://127.0.0.1:1", public, public, secret), **damage))


def test_no_server_is_said_at_once(server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    public, secret = other_keys()
    with pytest.raises(NotRunning):
        server.client(Connection(f"tcp://127.0.0.1:{port}", public, public, secret)).hello()


def test_a_silent_program_at_the_port_is_no_server(server):
    public, secret = other_keys()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TimedOut):
            server.client(Connection(endpoint, public, public, secret)).hello(timeout_s=0.5)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_hung_server_is_noticed(server):
    server.start()
    client = server.client()
    client.hello()
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(LinkError) as caught:
            client.request(AskStatus(), ServerState, timeout_s=20)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert caught.value.code == "server_lost"


def test_a_client_without_encryption_gets_nothing(server):
    connection = server.start()
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(connection.endpoint)
        dealer.send(encode(Hello(PROTOCOL_VERSION), 1))
        assert not dealer.poll(700)
    assert server.client().hello()


@pytest.mark.parametrize("text", [b"POST / HTTP/1.1\r\nContent-Type: text/plain\r\n\r\n", b"\xff" * 64, b""])
def test_other_programs_words_do_no_harm(server, text):
    connection = server.start()
    host, port = connection.endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as stream:
        stream.settimeout(0.5)
        stream.sendall(text + encode(AskStatus(), 1) * 50)
        answer = b""
        try:
            while chunk := stream.recv(4096):
                answer += chunk
        except OSError:
            pass
    assert b"boot_id" not in answer
    assert server.client().hello()


@pytest.mark.skipif(os.name != "posix", reason="file modes are a matter of POSIX")
def test_secrets_are_for_their_user_only(server):
    server.start()
    assert stat.S_IMODE(server.home.stat().st_mode) == 0o700
    for name in ("server.json", "keys.json"):
        assert stat.S_IMODE((server.home / name).stat().st_mode) == 0o600


def test_secrets_are_in_no_log_and_no_command_line(server):
    connection = server.start()
    follower = server.follower()
    follower.client.hello()
    follower.wait(follower.submit("steps", {"n": 1}))
    process = psutil.Process(server.process.pid)
    words = " ".join(word for one in [process, *process.children()] for word in one.cmdline())
    logs = "".join(path.read_text() for path in (server.home / "logs").rglob("*.*"))
    assert "job" in logs
    assert connection.client_secret not in logs + words


def test_the_server_listens_on_this_machine_only(server):
    server.start()
    listening = [c for c in psutil.Process(server.process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def test_nonsense_from_a_known_client_gets_typed_answers_only(server):
    connection = server.start()
    generator = random.Random(1)
    header = encode(AskStatus(), 1)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.curve_serverkey = connection.server_key.encode()
        dealer.curve_publickey = connection.client_key.encode()
        dealer.curve_secretkey = connection.client_secret.encode()
        dealer.connect(connection.endpoint)
        for _ in range(3000):
            data = bytearray(header)
            data[generator.randrange(len(data))] = generator.randrange(256)
            dealer.send_multipart([bytes(data)] + [b"x"] * generator.randrange(4))
            assert dealer.poll(20_000)
            answer = dealer.recv_multipart()
            assert len(answer) == 1
    assert server.client().status().queued == 0


@pytest.mark.parametrize("frames", [[b"\x80" * 70_000], [encode(AskStatus(), 1)] + [b"x" * 1000] * 300])
def test_too_much_is_refused(server, frames):
    server.start()
    client = server.client()
    client.hello()
    client._socket.send_multipart(frames)
    assert client.status()


def test_a_frame_beyond_the_limit_ends_the_connection_but_not_the_server(server):
    server.start()
    client = server.client()
    client.hello()
    with pytest.raises(LinkError):
        client.receive(client.send(AskStatus(), b"x" * (2 * CHUNK_LIMIT)), ServerState)
    assert server.client().hello()


FLOOD = {"n": 0, "step_s": 0.002, "stages": [f"Stage {i}" for i in range(1500)]}  # each is reported at once


def test_a_reader_that_does_not_read_disturbs_nobody(server):
    connection = server.start()
    follower = server.follower()
    job_id = new_id()
    with zmq.Context() as context, context.socket(zmq.DEALER) as slow:
        slow.linger = 0
        slow.rcvhwm = 1
        slow.setsockopt(zmq.RCVBUF, 4096)
        slow.curve_serverkey = connection.server_key.encode()
        slow.curve_publickey = connection.client_key.encode()
        slow.curve_secretkey = connection.client_secret.encode()
        slow.connect(connection.endpoint)
        follower.submit("steps", FLOOD, job_id=job_id)
        slow.send(encode(SubscribeJob(job_id), 1))
        assert follower.wait(job_id).name == "done"
        assert [event.seq for event in follower.events(job_id)] == list(range(1, len(follower.events(job_id)) + 1))
        assert psutil.Process(server.process.pid).memory_info().rss < 200e6
    late = server.follower()
    late.client.subscribe(job_id)
    assert late.wait(job_id).name == "done"


def test_versions_tell_each_other_who_is_older(server, monkeypatch):
    server.start()
    client = server.client()
    monkeypatch.setattr("shared_protocol.wire.PROTOCOL_VERSION", (2, 0))
    monkeypatch.setattr("shared_protocol.client.PROTOCOL_VERSION", (2, 0))
    with pytest.raises(VersionMismatch) as caught:
        client.hello()
    assert caught.value.hint == "Update the server."
    with pytest.raises(RemoteError) as refused:
        client.status()
    assert refused.value.code == "version_mismatch"


def test_answers_are_no_requests(server):
    server.start()
    client = server.client()
    with pytest.raises(RemoteError, match="is an answer"):
        client.request(Welcome(PROTOCOL_VERSION, "1", "2"), Welcome)
