# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server a scene's shot goes to: this computer's, or one that this user has been paired with.

A scene stores a server's name alone. Address and keys lie in this user's own folder (shared_protocol/pairing.py), and
everything that reads them runs in the background thread.
"""

import contextlib
import getpass
import ipaddress
import re
import socket
from functools import partial

import bpy

from . import preferences, session
from .errors import ArtistError
from .session import Server
from .shared_protocol.connection import read_connection
from .shared_protocol.errors import LinkError
from .shared_protocol.pairing import forget as forget_pairing
from .shared_protocol.pairing import join, paired_servers

PAIRING = "Pairing"
NAME_HERE = ""  # of this computer's server
NOT_ONLINE = (
    "That server is on another computer, and Blender is told to stay offline. Tick Edit > Preferences > System > "
    "Network > Allow Online Access, or choose the server of this computer."
)

known: list[str] = []
"""Names of the paired servers, as they were last read."""


class ServerError(ArtistError):
    """The server that was asked for cannot be used."""


def connect(context):
    """Reach the scene's server; the panel tells how it went."""
    name = context.scene.ex4d.server
    session.begin_connecting()
    found = partial(_find, name, preferences.server_program(context), bpy.app.online_access)
    session.call("Looking for the server", found, on_done=_go, is_quiet=True)


def _find(name, program, may_go_online) -> Server | str:
    """Return the server, or why there is none. Runs in the background thread."""
    try:
        if name == NAME_HERE:
            return Server(command=preferences.server_command(program))
        path = paired_servers().get(name)
        if path is None:
            return (
                f"This computer is not paired with {name}. Pair with a Server makes it so, by a line that its user "
                "gets from `ex4d server pair`; or choose another server."
            )
        connection = read_connection(path)
        check_online(connection.endpoint.removeprefix("tcp://"), may_go_online)
        return Server(name, connection=connection)
    except ArtistError as error:
        return str(error)
    except LinkError as error:
        return f"{error.title}. Pair with that server again."


def _go(found):
    if isinstance(found, str):
        session.no_way_to_connect(found)
    else:
        session.connect(found)


def check_online(address: str, may_go_online: bool):
    """Let another computer be asked only where Blender may go online.

    Args:
        address: IP:PORT.

    Raises:
        ServerError: it may not.
    """
    host = address.rpartition(":")[0].strip("[]")
    if not may_go_online and not ipaddress.ip_address(host).is_loopback:
        raise ServerError(NOT_ONLINE)


def look(on_done):
    """Read in the background which servers this user is paired with, then do something with it."""

    def remember(found):
        known[:] = found
        on_done()

    session.call("Looking for servers", lambda: list(paired_servers()), on_done=remember, is_quiet=True)


def pair(scene, text: str):
    """Make friends with the server of a pairing line, then use it for the scene."""
    on_done = partial(_paired, scene.name)
    session.call(PAIRING, _join, text, bpy.app.online_access, on_done=on_done)


def forget(scene):
    """Drop what is needed to reach the scene's paired server; the scene then uses this computer's."""
    name = scene.ex4d.server
    session.call("Forgetting the server", _forget, name, on_done=partial(_forgotten, scene.name, name))


def _forget(name):
    """Runs in the background thread."""
    forget_pairing(name)
    return list(paired_servers())


def _forgotten(scene_name, name, found):
    known[:] = found
    if session.current.server.name == name:
        session.close()  # to the end: a thread that runs while Blender keeps an undo step crashed it, once in 35
    scene = bpy.data.scenes.get(scene_name)
    if scene is not None and scene.ex4d.server == name:
        with session.undo_step("Forget Server"):
            scene.ex4d.server = NAME_HERE


def _join(text, may_go_online):
    """Runs in the background thread."""
    line = (text.split() or [""])[-1]  # people copy the whole command
    with contextlib.suppress(ValueError):  # no address: what `join` says about the line is the answer
        check_online(line.partition("/")[2].partition("/")[0], may_go_online)
    try:
        return join(line, _own_name()).stem, list(paired_servers())
    except LinkError as error:
        raise ServerError(f"{error.title.rstrip('.')}. {error.hint}") from error


def _own_name():
    """user@machine, as far as a client's name may hold it."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name
        user = "user"
    return re.sub(r"[^A-Za-z0-9_.@-]", "_", f"{user}@{socket.gethostname()}").lstrip("_.@-")[:64] or "client"


def _paired(scene_name, result):
    name, known[:] = result
    scene = bpy.data.scenes.get(scene_name)
    if scene is None:
        return
    with session.undo_step("Pair with a Server"):
        scene.ex4d.server = name
    with bpy.context.temp_override(scene=scene):
        connect(bpy.context)
