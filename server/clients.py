# SPDX-License-Identifier: Apache-2.0
"""Who may connect: this user, by the connection file, and clients that were paired or added by hand."""

import hmac
import json
import logging
import secrets
import time
from base64 import b32encode
from pathlib import Path

from ex4d.errors import StorageError
from shared_protocol.connection import write_private
from shared_protocol.errors import BadMessage
from shared_protocol.messages import KnownClient

from .failures import NotYours, QuotaExceeded, UnknownClient

MOST_CLIENTS = 100
CODE_BYTES = 10  # 80 bits; it lives for minutes and survives MOST_GUESSES wrong ones
MOST_GUESSES = 5


class Clients:
    """The list of allowed keys, on disk, and the present pairing code.

    Args:
        path: clients.json.
        admin_key: of the user who runs the server; always allowed.
    """

    def __init__(self, path: Path, admin_key: str) -> None:
        self.admin_key = admin_key
        self._path = path
        self._log = logging.getLogger("ex4d.server")
        self._known = {client.key: client for client in _read(path)}
        self._code = ""
        self._code_ends_s = 0.0  # monotonic
        self._guesses = 0

    def allows(self, key: str) -> bool:
        """Whether this key may do more than pair."""
        return key == self.admin_key or key in self._known

    def may_knock(self, key: str) -> bool:
        """Whether a connection with this key is accepted at all: while somebody is being paired, any is."""
        return self.allows(key) or self.pairing

    @property
    def pairing(self) -> bool:
        """Whether a pairing code is valid now."""
        return bool(self._code) and time.monotonic() < self._code_ends_s

    @property
    def known(self) -> tuple[KnownClient, ...]:
        """All but the server's own user."""
        return tuple(self._known.values())

    def begin_pairing(self, lifetime_s: float) -> str:
        """A new code, which replaces an older one and works once."""
        self._code = b32encode(secrets.token_bytes(CODE_BYTES)).decode("ascii")
        self._code_ends_s, self._guesses = time.monotonic() + lifetime_s, 0
        self._log.info("pairing is open for %g s", lifetime_s)
        return self._code

    def join(self, code: str, key: str, name: str) -> KnownClient:
        """Allow a key whose owner knows the code.

        Raises:
            NotYours: there is no code, or it is another one; after a few wrong ones it is void.
        """
        if not self.pairing or not hmac.compare_digest(code.encode(), self._code.encode()):
            self._guesses += 1
            if self._guesses >= MOST_GUESSES:
                self._code = ""
            self._log.warning("a wrong pairing code from %s", key)
            raise NotYours("This pairing code is not valid (any more). Ask for a new one: ex4d server pair")
        self._code = ""
        return self.add(key, name)

    def add(self, key: str, name: str) -> KnownClient:
        """Allow a key."""
        if key not in self._known and len(self._known) >= MOST_CLIENTS:
            raise QuotaExceeded(f"{MOST_CLIENTS} clients are paired already. Remove those that you no longer need.")
        taken = {client.name for other, client in self._known.items() if other != key}
        name = next(each for each in (name, *(f"{name}-{number}" for number in range(2, 1000))) if each not in taken)
        client = KnownClient(key, name, time.time())
        self._write({**self._known, key: client})
        self._log.info("client %s (%s) may connect now", name, key)
        return client

    def remove(self, name: str) -> None:
        """Refuse a client from now on, by its name or key.

        Raises:
            UnknownClient: there is none.
        """
        left = {key: client for key, client in self._known.items() if name not in (key, client.name)}
        if len(left) == len(self._known):
            raise UnknownClient(f"No client is called {name}.")
        self._write(left)
        self._log.info("client %s may no longer connect", name)

    def _write(self, known: dict[str, KnownClient]) -> None:
        data = {"schema": 1, "clients": [vars(client) for client in known.values()]}
        try:
            write_private(self._path, json.dumps(data, indent=2))
        except OSError as error:
            raise StorageError(f"The list of clients cannot be written: {error}") from error
        self._known = known


def _read(path: Path) -> list[KnownClient]:
    """The stored list; whoever cannot be read in it is not let in."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return [KnownClient(**client) for client in data["clients"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, BadMessage) as error:
        logging.getLogger("ex4d.server").error("%s cannot be read, nobody in it is let in: %s", path, error)
        return []
