# SPDX-License-Identifier: Apache-2.0
"""Fetching weights from the Hugging Face hub, when asked: goes on where it stopped, and checks what arrives."""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ex4d.errors import LicenceError, MachineError, StorageError
from ex4d.models.places import UNFINISHED, look, model_folder
from ex4d.models.record import FileRecord, Record, read_record, write_record
from ex4d.models.registry import Model
from ex4d.progress import Progress, ProgressCallback
from ex4d.storage import file_sha256

REPORT_EVERY_S = 0.2
LOCK_WAIT_S = 0.5
SPARE_BYTES = 1 << 30  # left free on the disk: a full one breaks other programs


@dataclass(frozen=True)
class HubFile:
    """A file as the hub describes it."""

    name: str  # relative to the repository
    size: int  # bytes
    sha256: str | None  # of large files
    blob_id: str | None  # git's sum, of small ones


def accepted(models: Iterable[Model], accept_licence: bool) -> None:
    """Make sure, before anything is fetched, that all licences are accepted that have to be.

    Raises:
        LicenceError: one is not.
    """
    held = [model for model in models if model.commercial_use is not True]
    if held and not accept_licence:
        terms = "; ".join(f"{model.what}: {model.licence} ({model.page})" for model in held)
        raise LicenceError(f"A licence has to be accepted first. {terms}. Read, then repeat with --accept-licence.")


def download(
    model: Model, accept_licence: bool = False, folder: Path | None = None, progress: ProgressCallback | None = None
) -> Path:
    """Fetch what is missing of a model; nothing when it is on this machine already.

    Args:
        model: which.
        accept_licence: the artist has read its licence; needed where that does not allow paid work outright.
        folder: where to; None for its own folder below $EX4D_MODELS.
        progress: told while fetching, in bytes of the whole model. It may raise to stop: what has arrived is kept.

    Returns:
        The folder that now holds it.

    Raises:
        LicenceError: its licence has to be accepted first.
        MachineError: no network, no permission, or what arrived is damaged.
        StorageError: it does not fit on the disk.
    """
    accepted([model], accept_licence)
    found = look(model, folder)
    if found.state == "complete":
        return found.folder
    folder = folder or model_folder(model.repository)
    if find_spec("huggingface_hub") is None:
        raise MachineError("Fetching weights needs the package huggingface_hub. Install it: pip install 'ex4d[models]'")
    with _our_errors(model, folder), _locked(folder, model):
        _fetch_missing(model, folder, progress)
    return folder


def _fetch_missing(model: Model, folder: Path, progress: ProgressCallback | None) -> None:
    started = read_record(folder, model.repository)
    revision, files = _describe(model, None if started is None else started.revision)
    same = started is not None and started.revision == revision
    known = {file.name: FileRecord(file.size, file.sha256) for file in files}
    if started is not None and same:
        known |= started.files
    else:  # what is half here may be of another version
        for file in files:
            _part(folder, file).unlink(missing_ok=True)
    missing = [file for file in files if not _is_there(folder, file, same, progress)]
    total = sum(file.size for file in files)
    done = total - sum(file.size for file in missing)
    _need_room(model, folder, sum(file.size - _arrived(_part(folder, file)) for file in missing))
    write_record(folder, Record(model.repository, revision, known))
    for file in missing:
        report = _Meter(f"Fetching {model.what}", done, total, progress)
        _fetch(model, revision, folder, file, report)
        part = _part(folder, file)
        if not _sum_is_right(part, file, progress):
            part.unlink()
            raise MachineError(f"{file.name} arrived damaged (its sum is not the hub's). Repeat the command.")
        known[file.name] = FileRecord(file.size, file.sha256 or file_sha256(part, f"Checking {file.name}"))
        part.replace(folder / file.name)
        write_record(folder, Record(model.repository, revision, known))
        done += file.size


def _describe(model: Model, revision: str | None) -> tuple[str, list[HubFile]]:
    """Ask the hub which commit its main branch, or this revision, is, and for the files that are wanted of it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    api = HfApi(endpoint=_endpoint(), library_name="ex4d")
    try:
        info = api.model_info(model.repository, revision=revision, files_metadata=True)
    except RevisionNotFoundError:
        if revision is None:
            raise
        info = api.model_info(model.repository, files_metadata=True)  # the version begun with is gone: take today's
    files = [
        HubFile(
            name=entry.rfilename,
            size=int(entry.size or 0),
            sha256=None if entry.lfs is None else entry.lfs.sha256,
            blob_id=entry.blob_id,
        )
        for entry in info.siblings or []
        if any(_matches(entry.rfilename, pattern) for pattern in model.files)
    ]
    lost = [pattern for pattern in model.files if not any(_matches(file.name, pattern) for file in files)]
    if lost:
        raise MachineError(
            f"{model.page} no longer holds {', '.join(lost)}. Update EX-4D, or copy {model.what} from another machine."
        )
    return str(info.sha), files


def _matches(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern folder by folder, as in `Path.glob`."""
    parts, patterns = PurePosixPath(name).parts, PurePosixPath(pattern).parts
    fits = all(fnmatchcase(part, one) for part, one in zip(parts, patterns, strict=False))
    return len(parts) == len(patterns) and ".." not in parts and fits


def _is_there(folder: Path, file: HubFile, begun: bool, progress: ProgressCallback | None) -> bool:
    """Whether a file has arrived before: through us, checked then, or by hand, to be checked now."""
    path = folder / file.name
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    return begun or _sum_is_right(path, file, progress)


def _part(folder: Path, file: HubFile) -> Path:
    return folder / f"{file.name}{UNFINISHED}"


def _arrived(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _need_room(model: Model, folder: Path, needed: int) -> None:
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed + SPARE_BYTES:
        raise StorageError(
            f"{model.what} needs {needed / 1e9:.1f} GB more in '{folder}' and 1 GB to spare, but "
            f"{free / 1e9:.1f} GB are free. Make room, or name a folder on a larger disk with EX4D_MODELS."
        )


class _Meter:
    """Reports bytes, a few times a second."""

    def __init__(self, stage: str, done: int, total: int, progress: ProgressCallback | None) -> None:
        self.stage, self.done, self.total, self.progress = stage, done, total, progress
        self.start, self.last = time.monotonic(), 0.0
        self.first: int | None = None  # where this attempt began: what was there before says nothing of the speed

    def at(self, position: int) -> None:
        """So many bytes of the present file are there."""
        now = time.monotonic()
        self.first = self.done + position if self.first is None else self.first
        if self.progress is None or (now - self.last < REPORT_EVERY_S and self.done + position < self.total):
            return
        self.last = now
        here = self.done + position
        rate = (here - self.first) / max(now - self.start, 1e-3)
        self.progress(Progress(self.stage, here, self.total, (self.total - here) / rate if rate > 0 else None))


class _Metered:
    """A file that reports how far it is written; what huggingface_hub writes into."""

    def __init__(self, file: IO[bytes], meter: _Meter) -> None:
        self.file, self.meter = file, meter

    def write(self, chunk: bytes) -> int:
        written = self.file.write(chunk)
        self.meter.at(self.file.tell())
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _fetch(model: Model, revision: str, folder: Path, file: HubFile, meter: _Meter) -> None:
    """Fetch one file, from where an earlier attempt stopped."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    part = _part(folder, file)
    part.parent.mkdir(parents=True, exist_ok=True)
    if _arrived(part) > file.size:
        part.unlink()
    # Not hf_hub_download: it throws away what has arrived of a file when it is stopped, and the files here are large.
    url = hf_hub_url(model.repository, file.name, revision=revision, endpoint=_endpoint())
    with part.open("ab") as opened, _no_bars():
        meter.at(opened.tell())
        http_get(
            url,
            _Metered(opened, meter),
            resume_size=opened.tell(),
            headers=build_hf_headers(library_name="ex4d"),
            expected_size=file.size,
        )


def _sum_is_right(path: Path, file: HubFile, progress: ProgressCallback | None) -> bool:
    """Whether a file holds what the hub says: by sha256 where it is large, by git's own sum where it is small."""
    if file.sha256 is None:
        return _git_sum(path) == file.blob_id
    return file_sha256(path, f"Checking {PurePosixPath(file.name).name}", progress) == file.sha256


def _git_sum(path: Path) -> str:
    """The name that git gives to a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Progress is ours to show."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


@contextlib.contextmanager
def _locked(folder: Path, model: Model) -> Iterator[None]:
    """Two downloads into one file would spoil it."""
    from huggingface_hub.utils import WeakFileLock

    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(folder / ".ex4d-download.lock", timeout=LOCK_WAIT_S))
        except TimeoutError as error:
            raise MachineError(f"{model.what} is being fetched into '{folder}' already. Wait for that one.") from error
        yield


@contextlib.contextmanager
def _our_errors(model: Model, folder: Path) -> Iterator[None]:
    """Turn what the hub, the network and the disk may raise into sentences."""
    from huggingface_hub import errors

    again = "Repeat the command to go on where it stopped."
    try:
        yield
    except errors.GatedRepoError as error:
        raise MachineError(
            f"{model.what} is only given to people who accepted its licence: do so on {model.page}, then log in here "
            "with: hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise MachineError(f"{model.page} does not exist, or needs a login: hf auth login") from error
    except errors.OfflineModeIsEnabled as error:
        raise MachineError(
            f"{model.what} cannot be fetched: HF_HUB_OFFLINE is set. Unset it, or copy the files into '{folder}'."
        ) from error
    except errors.HfHubHTTPError as error:
        raise MachineError(f"The hub refused to send {model.what}: {str(error).splitlines()[0]} {again}") from error
    except errors.HTTPError as error:  # the network library's own
        place = _endpoint() or "https://huggingface.co"
        raise MachineError(
            f"{place} does not answer ({type(error).__name__}). Connect this machine, or copy {model.what} from "
            f"another one into '{folder}'. {again}"
        ) from error
    except OSError as error:
        raise StorageError(f"{model.what} could not be fetched into '{folder}': {error}. {again}") from error
