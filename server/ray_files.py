# SPDX-License-Identifier: Apache-2.0
"""A job's files on their way to a node of a Ray cluster and back, in chunks of which few are under way at a time."""

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .ray_host import ANSWER, QUESTION

CHUNK, WINDOW = 4 * 1024 * 1024, 2  # 8 MB under way, whatever the files' size


def same_folder(host: Any, folder: Path) -> bool:
    """Whether the node reads and writes this very folder, as the same user.

    Args:
        host: the actor, a `RayHost`.
        folder: one of ours.
    """
    import ray

    question, answer = secrets.token_hex(16), secrets.token_hex(16)
    (folder / QUESTION).write_text(question, encoding="ascii")
    try:
        seen = ray.get(host.shares.remote(str(folder), answer))
        written = folder / ANSWER
        return bool(
            seen == question
            and written.read_text(encoding="ascii") == answer
            and written.stat().st_uid == (folder / QUESTION).stat().st_uid
        )
    except OSError:
        return False
    finally:
        for name in (QUESTION, ANSWER):
            (folder / name).unlink(missing_ok=True)


def send_inputs(host: Any, job: dict[str, Any], tick: Callable[[], None]) -> dict[str, Any]:
    """Send a job's files.

    Args:
        host: the actor.
        job: as the server tells it to a worker.
        tick: called for each chunk; may raise.

    Returns:
        The job as the node sees it.
    """
    import ray

    names = {role: f"inputs/{role}/{Path(path).name}" for role, path in job["inputs"].items()}
    folder = ray.get(host.begin.remote(list(names.values())))
    for role, name in names.items():
        path = Path(job["inputs"][role])
        with path.open("rb") as file:
            offsets = range(0, path.stat().st_size, CHUNK)
            for _ in _in_window(host.put.remote(name, offset, file.read(CHUNK)) for offset in offsets):
                tick()
    return {**job, "inputs": {role: f"{folder}/{name}" for role, name in names.items()}, "workdir": folder}


def fetch(host: Any, node_folder: str, node_path: str, workdir: Path, tick: Callable[[], None]) -> str:
    """Bring a file that a job made.

    Args:
        host: the actor.
        node_folder: of the job.
        node_path: of the file.
        workdir: the job's folder here.
        tick: called for each chunk.

    Returns:
        Where it lies now. What is no file in the job's folder stays where it is.
    """
    import ray

    name = node_path.removeprefix(f"{node_folder}/")
    size = ray.get(host.size.remote(name)) if name != node_path else None
    if size is None or ".." in name.split("/"):
        return node_path
    path = workdir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for chunk in _in_window(host.get.remote(name, offset, CHUNK) for offset in range(0, size, CHUNK)):
            file.write(chunk)
            tick()
    return str(path)


def _in_window(calls: Iterable[Any]) -> Iterator[Any]:
    """The results of calls in their order; a new one is made only when few are under way."""
    import ray

    under_way: deque[Any] = deque()
    for call in calls:
        under_way.append(call)
        if len(under_way) == WINDOW:
            yield ray.get(under_way.popleft())
    while under_way:
        yield ray.get(under_way.popleft())
