# SPDX-License-Identifier: Apache-2.0
"""The server's part of `ex4d doctor`: its keys' rights, its room, whether it runs, who else uses its port and GPUs."""

import contextlib
import os
import shutil
import socket
import stat
from pathlib import Path

import psutil

from ex4d.doctor import Finding
from shared_protocol.connection import home_folder
from shared_protocol.errors import LinkError
from shared_protocol.messages import ServerState
from shared_protocol.pairing import paired_servers

from .artifacts import Artifacts
from .cli import ask_running
from .devices import ask_driver, find_gpus
from .listening import PORT
from .runtime import Home

LEAST_ROOM = 20e9  # bytes: the cache keeps 2 GB of the disk free, and ten shots with their takes need 15 GB
OTHERS = stat.S_IRWXG | stat.S_IRWXO  # rights of anybody but the owner


def findings() -> list[Finding]:
    """Look at everything that the server of this user needs."""
    home = Home(home_folder())
    running, state = _running()
    return [_folder(home), _room(home), _secrets(home), running, _port(state), *_other_programs(state)]


def _folder(home: Home) -> Finding:
    folder = home.folder
    if not folder.exists():
        return Finding("server folder", True, f"{folder}, made at the first start")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Finding("server folder", False, f"{folder} cannot be written", f"chmod 700 {folder}")
    return Finding(
        "server folder", not _open_to_others(folder), str(folder), f"Others may enter it: chmod 700 {folder}"
    )


def _room(home: Home) -> Finding:
    """Uploads and results are refused when the disk is full, whatever the cache's budget."""
    there = next(folder for folder in (home.folder, *home.folder.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    cached = sum(status.st_size for _, status in Artifacts(home.artifacts).files()) if home.artifacts.exists() else 0
    found = f"{free / 1e9:.0f} GB free, {cached / 1e9:.1f} GB in the cache"
    cure = "Make room, or move the server: set EX4D_HOME to a folder on another disk."
    return Finding("server disk", free + cached >= LEAST_ROOM, found, cure, required=False)


def _secrets(home: Home) -> Finding:
    files = [home.folder / "keys.json", home.connection_file, home.clients, *paired_servers().values()]
    wrong = [str(path) for path in files if path.exists() and _open_to_others(path)]
    found = f"others have rights on {', '.join(wrong)}" if wrong else "for this user only"
    cure = f"chmod 600 {' '.join(wrong)}. If somebody may have read them, remove them and start the server again."
    return Finding("server keys", not wrong, found, cure)


def _running() -> tuple[Finding, ServerState | None]:
    try:
        found = ask_running()
    except LinkError as error:
        cure = f"{error.hint} See ex4d server logs.".strip()
        return Finding("server", False, str(error), cure, required=False), None
    if found is None:
        return Finding("server", True, "not running; it is started when it is needed", required=False), None
    endpoint, state = found
    return Finding("server", True, f"{state.server_version} at {endpoint}, pid {state.pid}", required=False), state


def _port(state: ServerState | None) -> Finding:
    """Only `--listen` without a port of its own needs this one."""
    what = f"port {PORT} for other machines"
    try:
        with socket.socket() as probe:
            if os.name == "posix":  # elsewhere the option would let us take a port that is in use
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", PORT))
    except OSError as error:
        if state is not None and _listens(state.pid):
            return Finding(what, True, "the server listens there", required=False)
        cure = f"Another program has it. Choose another: ex4d server start --listen IP:{PORT + 1}"
        return Finding(what, False, f"not free ({error.strerror})", cure, required=False)
    return Finding(what, True, "free", required=False)


def _listens(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(each.laddr.port == PORT for each in psutil.Process(pid).net_connections() if each.laddr)
    return False


def _other_programs(state: ServerState | None) -> list[Finding]:
    """Who computes on the GPUs beside our workers: a take that has to share one may not find the room."""
    gpus = find_gpus()
    if not gpus:
        return []
    ours = _family(state.pid) if state is not None else set()
    others = [text for pid, text in _gpu_programs() if pid not in ours]
    memory = ", ".join(f"GPU {gpu.index}: {gpu.memory_used_mb} of {gpu.memory_total_mb} MB used" for gpu in gpus)
    found = f"{'; '.join(others) or 'none'} ({memory})"
    cure = "Close what you do not need while takes are painted."
    return [Finding("other programs on the GPU", not others, found, cure, required=False)]


def _gpu_programs() -> list[tuple[int, str]]:
    """(process id, program and its memory) of everything that computes on a GPU."""
    answer = ask_driver("compute-apps=pid,used_memory,process_name")
    rows = [[word.strip() for word in line.split(",", 2)] for line in answer]
    return [
        (int(pid), f"{Path(name).name} (pid {pid}, {memory} MB)")
        for pid, memory, name in (row for row in rows if len(row) == 3)
        if pid.isdigit()
    ]


def _family(pid: int) -> set[int]:
    with contextlib.suppress(psutil.Error):
        return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    return {pid}


def _open_to_others(path: Path) -> bool:
    """Whether anybody but its owner has rights on it. On Windows the profile folder's own rights count."""
    return os.name == "posix" and bool(path.stat().st_mode & OTHERS)
