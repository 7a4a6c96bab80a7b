# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it goes: one line of JSON per step in log.jsonl, and TensorBoard's curves on request."""

import importlib
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from ex4d.errors import MachineError, StorageError

LOG = "log.jsonl"


class Journal:
    """The log of a run; only the main process writes it."""

    def __init__(self, run: Path, main: bool, tensorboard: bool) -> None:
        """Open it, and go on behind what is there.

        Args:
            run: its folder.
            main: whether this process writes.
            tensorboard: also write curves into the folder `tensorboard`.

        Raises:
            StorageError: the folder refuses to be written.
        """
        self._file, self._curves = None, None
        if not main:
            return
        try:
            run.mkdir(parents=True, exist_ok=True)
            self._file = (run / LOG).open("a", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"'{run}' cannot be written: {error.strerror}. Choose another folder.") from error
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._curves = SummaryWriter(str(run / "tensorboard"))

    def event(self, name: str, **facts: Any) -> None:
        """Something that is no number of a step: that the run began, where a clip was written."""
        self._write({"event": name, **facts})

    def numbers(self, step: int, **values: float) -> None:
        """Measurements after a step."""
        self._write({"step": step, **values})
        if self._curves is not None:
            for name, value in values.items():
                self._curves.add_scalar(name, value, step)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._curves is not None:
            self._curves.close()
        if self._file is not None:
            self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps({**entry, "time": round(time.time(), 3)}) + "\n")
            self._file.flush()


def need_tensorboard() -> None:
    """Refuse to go on without TensorBoard, or MachineError."""
    try:
        importlib.import_module("tensorboard")
    except ImportError as error:
        raise MachineError(
            "tensorboard = true needs the Python package tensorboard, which is not installed. Install it with: "
            "pip install 'ex4d[train]'. Or leave it out: log.jsonl holds the same numbers."
        ) from error
