# SPDX-License-Identifier: Apache-2.0
"""Where results that can be made again are kept between runs."""

import os
import sys
from pathlib import Path


def cache_folder(kind: str) -> Path | None:
    """The folder for one kind of result: in EX4D_CACHE, else in the system's place for caches.

    Returns:
        None when an empty EX4D_CACHE switches all caches off.
    """
    chosen = os.environ.get("EX4D_CACHE")
    if chosen is not None:
        return Path(chosen) / kind if chosen else None
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "ex4d" / "cache"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches" / "ex4d"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ex4d"
    return base / kind
