# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between the add-on and the server. Each case has a stable code, a title and a hint."""


class LinkError(Exception):
    """Base of everything that this package raises on purpose."""

    code = "link"
    hint = "Try again; if it keeps failing, restart the server with 'ex4d server stop' and 'ex4d server start'."

    def __init__(self, title: str, hint: str | None = None, detail: str = "") -> None:
        super().__init__(title)
        self.title = title
        self.detail = detail
        if hint is not None:
            self.hint = hint


class BadMessage(LinkError):
    """A header that does not decode, or a field that is missing or wrong; the text names the field."""

    code = "bad_message"
    hint = "The add-on and the server do not understand each other. Install the same release of both."


class VersionMismatch(LinkError):
    """The other side speaks another major version."""

    code = "version_mismatch"
    hint = "Install the same release of the add-on and of the server."


class NotRunning(LinkError):
    """Nothing answers: no connection file, or nobody listens at its endpoint."""

    code = "not_running"
    hint = "Start the server with 'ex4d server start', then connect again."


class BadConnectionFile(LinkError):
    """The connection file is there but damaged."""

    code = "bad_connection_file"
    hint = "Delete the file and restart the server with 'ex4d server stop' and 'ex4d server start'."


class NotPaired(LinkError):
    """The server does not know this client's key."""

    code = "not_paired"
    hint = "Connect again so that the current connection file is read; with another machine's server, pair again."


class BadPairingText(LinkError):
    """The line that pairs two machines was not copied whole."""

    code = "bad_pairing_text"
    hint = "Copy the whole line that 'ex4d server pair' prints on the server's machine."


class WrongServerKey(LinkError):
    """Somebody answers at the endpoint but cannot prove to be the server that the connection file names."""

    code = "wrong_server_key"
    hint = "Another program may be using the server's port. Restart the server with 'ex4d server start'."


class ServerLost(LinkError):
    """The connection broke after it had been established."""

    code = "server_lost"
    hint = "The server's queue is kept on disk. Connect again and the job continues."


class TimedOut(LinkError):
    """The server is there but does not answer in time."""

    code = "timed_out"
    hint = "The machine may be overloaded. Wait a moment and connect again."


class ServerStartFailed(LinkError):
    """The command that should start the server failed."""

    code = "server_start_failed"
    hint = "Run the command in a terminal to see what it says, or check the server command in the preferences."


class TransferFailed(LinkError):
    """A file changed while it was sent, or arrived different from what was sent."""

    code = "transfer_failed"
    hint = "Make sure that nothing writes to the file, then try again."


class LocalStorage(LinkError):
    """A file on this side cannot be read or written."""

    code = "storage"
    hint = "Check that the file exists, that the folder may be written to, and that the disk has space left."


class Stopped(LinkError):
    """The user cancelled, or the client is being closed."""

    code = "cancelled"
    hint = "Nothing to do: the work was stopped on request."


class Defect(LinkError):
    """Something that should not happen; the title is what a maintainer needs to see."""

    code = "internal"
    hint = "This is a defect. Please report it with this text."


def as_link_error(error: Exception) -> LinkError:
    """Any exception as one of ours, so that it can be told to the user."""
    if isinstance(error, LinkError):
        return error
    if isinstance(error, OSError):
        return LocalStorage(f"A file cannot be read or written: {error.strerror or error}", detail=str(error))
    return Defect(f"{type(error).__name__}: {error}")


class RemoteError(LinkError):
    """The server refused a request; code, title, hint and detail are the server's own words."""

    def __init__(self, code: str, title: str, hint: str, detail: str = "") -> None:
        super().__init__(title, hint, detail)
        self.code = code
