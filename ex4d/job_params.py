# SPDX-License-Identifier: Apache-2.0
"""A job's parameters, each checked for its type as it is read.

Parameters are taken out of the dictionary as they are read; what is left at the end is unknown. Null means that the
sender leaves it to us.
"""

from typing import Any

from ex4d.errors import InputError

Params = dict[str, Any]


def _taken(params: Params, name: str, default: Any) -> Any:
    value = params.pop(name, None)
    return default if value is None else value


def choice(params: Params, name: str, allowed: tuple[str, ...], default: str) -> Any:
    """One of the allowed texts."""
    value = _taken(params, name, default)
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
    return value


def text(params: Params, name: str, default: str | None) -> Any:
    """A text."""
    value = _taken(params, name, default)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name} must be text, got {value!r}.")
    return value


def number(params: Params, name: str, default: float | None) -> float | None:
    """A number."""
    value = _taken(params, name, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} must be a number, got {value!r}.")
    return float(value)


def integer(params: Params, name: str, default: int | None) -> Any:
    """A whole number."""
    value = _taken(params, name, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise InputError(f"{name} must be a whole number, got {value!r}.")
    return value


def switch(params: Params, name: str) -> bool:
    """True or false; false where it is not given."""
    value = _taken(params, name, False)
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {value!r}.")
    return value


def texts(params: Params, name: str) -> dict[str, str]:
    """Texts by name."""
    value = _taken(params, name, {})
    if not isinstance(value, dict) or not all(isinstance(item, str) for pair in value.items() for item in pair):
        raise InputError(f"{name} must be texts by name, got {value!r}.")
    return value


def names(params: Params, name: str) -> tuple[str, ...]:
    """A list of texts."""
    value = _taken(params, name, ())
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise InputError(f"{name} must be a list of texts, got {value!r}.")
    return tuple(value)


def refuse_rest(params: Params) -> None:
    """Refuse what nobody asked for."""
    if params:
        raise InputError(f"Unknown parameters: {', '.join(sorted(params))}. Update the server or the sender.")
