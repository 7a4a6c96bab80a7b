# SPDX-License-Identifier: Apache-2.0
"""Messages as checked data: type hints say what a field may hold, and every refusal names the field."""

import math
import re
import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from .errors import BadMessage

MAX_INT = 2**63 - 1  # SQLite's and every client language's largest integer
MAX_DEPTH = 16  # nesting of params; real ones have two levels


@dataclass(frozen=True)
class Matches:
    """A text that fits a pattern from end to end."""

    pattern: str

    def check(self, value: Any, name: str) -> None:
        if not re.fullmatch(self.pattern, value, re.ASCII):
            raise BadMessage(f"{name} must match {self.pattern}, got {value[:80]!r}")


@dataclass(frozen=True)
class Within:
    """A number from `low` to `high`, both included."""

    low: int
    high: int

    def check(self, value: Any, name: str) -> None:
        if not self.low <= value <= self.high:
            raise BadMessage(f"{name} must lie in {self.low}..{self.high}, got {value}")


@dataclass(frozen=True)
class AtMost:
    """Bytes or a text of a limited length."""

    length: int

    def check(self, value: Any, name: str) -> None:
        if len(value) > self.length:
            raise BadMessage(f"{name} may have {self.length} bytes, got {len(value)}")


@dataclass(frozen=True)
class PlainData:
    """A value made of None, bool, int, finite float, str, list and dict with text keys."""

    def check(self, value: Any, name: str, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise BadMessage(f"{name} is nested more than {MAX_DEPTH} levels deep")
        if value is None or isinstance(value, bool | str):
            return
        if isinstance(value, int):
            Within(-MAX_INT, MAX_INT).check(value, name)
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise BadMessage(f"{name} must be finite, got {value}")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.check(item, f"{name}[{index}]", depth + 1)
        elif isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    raise BadMessage(f"{name} may only have text keys, got {key!r}")
                self.check(item, f"{name}.{key}", depth + 1)
        else:
            raise BadMessage(f"{name} must be plain data, got {type(value).__name__}")


class Checked:
    """Base of messages and their parts: frozen dataclasses whose fields are checked when they are built."""

    def __post_init__(self) -> None:
        for name, hint in field_hints(type(self)).items():
            _check(hint, getattr(self, name), name)


RAW = {"raw": True}
"""Metadata of a field that does not stand in the header: it travels as the message's second frame."""

_hints: dict[type, dict[str, Any]] = {}


def field_hints(cls: type) -> dict[str, Any]:
    """The fields of a dataclass and their resolved type hints, in order."""
    if cls not in _hints:
        resolved = typing.get_type_hints(cls, include_extras=True)
        _hints[cls] = {field.name: resolved[field.name] for field in fields(cls)}
    return _hints[cls]


def to_plain(value: Any) -> Any:
    """Dataclasses to dicts and tuples to lists, ready for msgpack. Raw fields are left out."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value) if field.metadata != RAW}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(hint: Any, plain: Any, name: str) -> Any:
    """Rebuild what `to_plain` took apart. Fields that a newer minor version added are ignored.

    Raises:
        BadMessage: naming the field, when something is missing or of the wrong kind.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return from_plain(args[0], plain, name)
    if origin in (Union, types.UnionType):
        return None if plain is None else from_plain(_not_none(args), plain, name)
    if origin is tuple:
        if not isinstance(plain, list):
            raise BadMessage(f"{name} must be a list, got {type(plain).__name__}")
        if args[-1] is Ellipsis:
            return tuple(from_plain(args[0], item, f"{name}[{index}]") for index, item in enumerate(plain))
        if len(plain) != len(args):
            raise BadMessage(f"{name} must have {len(args)} items, got {len(plain)}")
        return tuple(from_plain(args[index], item, f"{name}[{index}]") for index, item in enumerate(plain))
    if isinstance(hint, type) and issubclass(hint, Checked):
        return _build(hint, plain, name)
    return plain


def _build(cls: type[Checked], plain: Any, name: str) -> Checked:
    if not isinstance(plain, dict):
        raise BadMessage(f"{name} must be a map, got {type(plain).__name__}")
    hints = field_hints(cls)
    raw = {field.name for field in fields(cls) if field.metadata == RAW}  # type: ignore[arg-type]
    values = {key: from_plain(hints[key], plain[key], f"{name}.{key}") for key in hints if key in plain.keys() - raw}
    try:
        return cls(**values)
    except TypeError as error:  # a field without default is missing: the constructor's text names it
        missing = [key for key in hints if key not in plain]
        raise BadMessage(f"{name} lacks one of the fields {', '.join(missing)}", detail=str(error)) from error


def _not_none(args: tuple[Any, ...]) -> Any:
    return next(arg for arg in args if arg is not type(None))


def _check(hint: Any, value: Any, name: str) -> None:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        _check(args[0], value, name)
        for rule in args[1:]:
            rule.check(value, name)
    elif origin in (Union, types.UnionType):
        if value is not None:
            _check(_not_none(args), value, name)
    elif origin is tuple:
        if not isinstance(value, tuple):
            raise BadMessage(f"{name} must be a tuple, got {type(value).__name__}")
        for index, item in enumerate(value):
            _check(args[0] if args[-1] is Ellipsis else args[index], item, f"{name}[{index}]")
    elif origin is Literal:
        if value not in args:
            raise BadMessage(f"{name} must be one of {', '.join(map(str, args))}, got {value!r:.80}")
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadMessage(f"{name} must be a finite number, got {value!r:.80}")
    elif hint is int:
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_INT:
            raise BadMessage(f"{name} must be a whole number below 2^63, got {value!r:.80}")
    else:
        expected = origin or hint
        if not isinstance(value, expected):
            raise BadMessage(f"{name} must be {expected.__name__}, got {type(value).__name__}")
