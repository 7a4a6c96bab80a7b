# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel says about a server that is away, and what to do about it."""

import sys

from .shared_protocol.errors import NotPaired, NotRunning, ServerLost, TimedOut, WrongServerKey

HERE = "This Computer"

SERVER_PROGRAM = ".venv\\Scripts\\ex4d.exe" if sys.platform == "win32" else ".venv/bin/ex4d"
NO_SERVER_PROGRAM = (
    f"Run `python3 dev.py setup` in the clone, then `{SERVER_PROGRAM} server start` once, or name the program in "
    "Edit > Preferences > Add-ons > EX-4D Reshoot."
)
# The link gives up after a minute, on another computer after a quarter of an hour (shared_protocol/link.py).
JOB_WAITS = "The job goes on by itself if the server runs again within a minute."
JOB_WAITS_FAR = "The job goes on by itself if the server answers again within 15 minutes."
CONNECT_AGAIN = "Connect again."
PAIR_AGAIN = "Ask its user for a new pairing line (ex4d server pair), then press Pair with a Server."
FAR_HINTS = {
    NotRunning.code: (
        "See whether that computer is on, in the same network and not behind a firewall, and whether its server runs "
        "(ex4d server start --listen ADDRESS). Or choose another server."
    ),
    TimedOut.code: "That computer may be overloaded, or the network slow. Connect again, or choose another server.",
    NotPaired.code: f"It does not let this computer in any more. {PAIR_AGAIN}",
    WrongServerKey.code: f"Another server answers there than the one paired with. {PAIR_AGAIN}",
}


def label_of(name: str) -> str:
    """Return how a server is called; the name of this computer's is empty."""
    return name or HERE


def what_to_do(event, server, has_job: bool) -> str:
    """Return the hint for a server that went or stays away.

    Args:
        event: Disconnected.
        server: session.Server that was asked for.
        has_job: a job waits for it.
    """
    was_lost = event.code == ServerLost.code
    if server.name:
        if has_job and event.code != NotPaired.code:
            return JOB_WAITS_FAR
        return FAR_HINTS.get(event.code, CONNECT_AGAIN if was_lost else event.hint)
    if event.code == NotRunning.code and server.command is None:
        return NO_SERVER_PROGRAM
    if has_job:
        return JOB_WAITS if server.command is None else f"{JOB_WAITS} Connect starts it now."
    return CONNECT_AGAIN if was_lost else event.hint
