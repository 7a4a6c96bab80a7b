# SPDX-License-Identifier: Apache-2.0
"""Small JSON documents, written atomically and read strictly: every field has its type or an error names it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ex4d.errors import ShotError
from ex4d.storage import replacing

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def write_document(path: Path, schema: int, content: Mapping[str, Any]) -> None:
    """Write a document under its schema version.

    Raises:
        StorageError: the disk is full or refuses to be written.
    """
    with replacing(path) as temporary:
        text = json.dumps({"schema": schema, **content}, indent=2, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_document(path: Path, schema: int) -> "Fields":
    """Read a document of this schema version or an older one.

    Raises:
        ShotError: it is missing, is no JSON object, or was written by a newer version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ShotError(f"'{path}' is missing. Choose a shot folder that EX-4D wrote, or reconstruct again.") from error
    except OSError as error:
        raise ShotError(f"'{path}' cannot be read: {error.strerror}. Check its permissions.") from error
    except ValueError as error:  # no UTF-8, no JSON
        raise ShotError(f"'{path}' is damaged: {error}. Make it again.") from error
    if not isinstance(content, dict):
        raise ShotError(f"'{path}' must hold a JSON object, got {type(content).__name__}. Make it again.")
    fields = Fields(path, content)
    found = fields.integer("schema")
    if found > schema:
        raise ShotError(
            f"'{path}' was written by a newer version of EX-4D (schema {found}; this version reads up to {schema}). "
            "Update EX-4D to use it."
        )
    return fields


class Fields:
    """Typed access to the fields of a JSON object."""

    def __init__(self, path: Path, content: dict[str, Any], prefix: str = "") -> None:
        self._path, self._content, self._prefix = path, content, prefix

    def has(self, name: str) -> bool:
        """Whether the field is there: files from before it was added lack it."""
        return name in self._content

    def text(self, name: str) -> str:
        value = self._get(name)
        return value if isinstance(value, str) else self._refuse(name, "text", value)

    def integer(self, name: str) -> int:
        value = self._get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else self._refuse(name, "integer", value)

    def number(self, name: str) -> float:
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self._refuse(name, "a number", value)
        return float(value)

    def boolean(self, name: str) -> bool:
        value = self._get(name)
        return value if isinstance(value, bool) else self._refuse(name, "true or false", value)

    def optional_boolean(self, name: str) -> bool | None:
        return None if self._get(name) is None else self.boolean(name)

    def optional_text(self, name: str) -> str | None:
        return None if self._get(name) is None else self.text(name)

    def optional_integer(self, name: str) -> int | None:
        return None if self._get(name) is None else self.integer(name)

    def optional_number(self, name: str) -> float | None:
        return None if self._get(name) is None else self.number(name)

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._refuse(name, "a list of texts", value)
        return tuple(value)

    def numbers(self, name: str, shape: tuple[int, int]) -> list[list[float]]:
        value = self._get(name)
        rows = value if isinstance(value, list) and len(value) == shape[0] else self._refuse(name, f"{shape}", value)
        for row in rows:
            if not isinstance(row, list) or len(row) != shape[1]:
                self._refuse(name, f"{shape[0]} rows of {shape[1]} numbers", value)
            if any(isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) for x in row):
                self._refuse(name, "finite numbers", value)
        return [[float(x) for x in row] for row in rows]

    def row(self, name: str) -> tuple[float, ...]:
        value = self._get(name)
        if not isinstance(value, list) or not value:
            self._refuse(name, "a list of numbers", value)
        if any(isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) for x in value):
            self._refuse(name, "finite numbers", value)
        return tuple(float(x) for x in value)

    def inside(self, name: str) -> "Fields":
        return Fields(self._path, self.json_object(name), f"{self._prefix}{name}.")

    def json_object(self, name: str) -> dict[str, Any]:
        value = self._get(name)
        return value if isinstance(value, dict) else self._refuse(name, "an object", value)

    def text_map(self, name: str) -> dict[str, str]:
        value = self.json_object(name)
        return value if all(isinstance(item, str) for item in value.values()) else self._refuse(name, "texts", value)

    def choice(self, name: str, allowed: tuple[str, ...]) -> Any:
        value = self.text(name)
        return value if value in allowed else self._refuse(name, f"one of {', '.join(allowed)}", value)

    def _get(self, name: str) -> Any:
        if name not in self._content:
            raise ShotError(f"'{self._path}' lacks the field '{self._prefix}{name}'. Make it again.")
        return self._content[name]

    def _refuse(self, name: str, expected: str, value: object) -> Any:
        shown = str(value) if len(str(value)) <= 60 else f"{str(value)[:60]}…"
        raise ShotError(f"'{self._path}': {self._prefix}{name} must be {expected}, got {shown}. Make it again.")
