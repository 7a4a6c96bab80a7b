# SPDX-License-Identifier: Apache-2.0
"""Messages about who may connect."""

from dataclasses import dataclass
from typing import Annotated

from ..fields import Matches, Within
from .base import Message, message

Key = Annotated[str, Matches("[!-~]{40}")]  # a CURVE key in Z85
Name = Annotated[str, Matches("[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")]


@message("client.known")
@dataclass(frozen=True)
class KnownClient(Message):
    """A client that may connect."""

    key: Key
    name: Name
    added_at_s: float  # Unix time


@message("client.list")
@dataclass(frozen=True)
class AskClients(Message):
    """Ask who may connect. This and all below but joining is for the user who runs the server."""


@message("client.names")
@dataclass(frozen=True)
class ClientList(Message):
    """Who may connect, beside the user who runs the server."""

    clients: tuple[KnownClient, ...] = ()
    listens: tuple[str, ...] = ()  # endpoints that are open now


@message("client.add")
@dataclass(frozen=True)
class AddClient(Message):
    """Let a client in whose key is known."""

    key: Key
    name: Name


@message("client.remove")
@dataclass(frozen=True)
class RemoveClient(Message):
    """Refuse a client from now on, by its name or key."""

    name: Annotated[str, Matches("[!-~]{1,64}")]


@message("pair.begin")
@dataclass(frozen=True)
class BeginPairing(Message):
    """Make a code with which one client can let itself in."""

    lifetime_s: Annotated[float, Within(1, 3600)] = 600.0


@message("pair.code")
@dataclass(frozen=True)
class PairingCode(Message):
    """The code and where it works."""

    code: str
    endpoint: str
    server_key: Key


@message("pair.join")
@dataclass(frozen=True)
class JoinServer(Message):
    """Let me in: I know the code. The key is the one of this connection."""

    code: Annotated[str, Matches("[A-Z2-7]{8,64}")]
    name: Name
