# SPDX-License-Identifier: Apache-2.0
"""Where the server listens: on this machine always, elsewhere only when told to and only when somebody may come."""

import ipaddress
import logging

import zmq
import zmq.asyncio

from ex4d.errors import InputError, MachineError

from .clients import Clients

PORT = 47411  # for --listen without one
_LOOPBACK = "tcp://127.0.0.1:*"


class Listening:
    """The endpoints of one socket.

    Args:
        socket: the server's.
        clients: decides whether the network may be listened to.
        address: IP[:PORT] on which to listen beside this machine; None for nowhere.
    """

    def __init__(self, socket: zmq.asyncio.Socket, clients: Clients, address: str | None) -> None:
        self.local = ""
        self.open = False  # to the network
        self.address = listen_endpoint(address) if address else None
        self._socket = socket
        self._clients = clients
        self._log = logging.getLogger("ex4d.server")

    def start(self) -> None:
        """Listen on this machine, on any free port, and elsewhere if that is wanted and somebody is allowed."""
        self._socket.bind(_LOOPBACK)
        endpoint = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        self.local = endpoint.rstrip(b"\0").decode("ascii")
        self.adjust()
        if self.address and not self.open:
            self._log.warning("%s stays closed until a client is paired: ex4d server pair", self.address)

    def adjust(self) -> None:
        """Open or close the network after the list of clients or the pairing has changed.

        Raises:
            MachineError: the address cannot be listened on.
        """
        wanted = bool(self._clients.known) or self._clients.pairing
        if self.address is None or wanted == self.open:
            return
        if "[" in self.address:
            self._socket.setsockopt(zmq.IPV6, 1)
        try:
            (self._socket.bind if wanted else self._socket.unbind)(self.address)
        except zmq.ZMQError as error:
            raise MachineError(
                f"The server cannot listen at {self.address}: {error.strerror}. Choose another."
            ) from error
        self.open = wanted
        self._log.info("%s is %s", self.address, "open" if wanted else "closed")


def listen_endpoint(text: str) -> str:
    """`IP`, `IP:PORT` or `[IPv6]:PORT` as an endpoint.

    Raises:
        InputError: it is no IP address; names are not taken, because they may come to mean another address.
    """
    host, port = text, str(PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if bracket and rest else port if bracket else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = ipaddress.ip_address(host)
        if not 1 <= int(port) <= 65535:
            raise ValueError("no port")
    except ValueError as error:
        raise InputError(f"--listen takes an IP address of this machine, or IP:PORT, got '{text}'.") from error
    return f"tcp://[{address}]:{int(port)}" if address.version == 6 else f"tcp://{address}:{int(port)}"
