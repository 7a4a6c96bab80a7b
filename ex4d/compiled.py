# SPDX-License-Identifier: Apache-2.0
"""How this library compiles its loops."""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from inspect import getfile
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile with numba: without the interpreter's lock, IEEE arithmetic only, kept on disk for the next process."""
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _Kept(function)
    return cast(Function, dispatcher)


class _Kept(FunctionCache):
    """Numba's store on disk, dropped when a file beside the function's own changes.

    Machine code holds the constants and the functions that it takes from other files; numba looks at its own one only.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        stamp = _sources(Path(getfile(function)).parent)
        self._cache_file = IndexDataCacheFile(  # type: ignore[no-untyped-call]
            self.cache_path, self._impl.filename_base, stamp
        )


@cache
def _sources(folder: Path) -> str:
    """The folder's files that hold compiled loops, or its constants (__init__.py), as a hash."""
    kept = sha256()
    for path in sorted(folder.glob("*.py")):
        text = path.read_bytes()
        if b"import compiled" in text or path.stem == "__init__":
            kept.update(text)
    return kept.hexdigest()
