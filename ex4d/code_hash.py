# SPDX-License-Identifier: Apache-2.0
"""Whether two machines, or two moments, have the same code: its source files' hash."""

import hashlib
from importlib.util import find_spec
from pathlib import Path


def code_hash(module: str) -> str:
    """Of the source files of a module's package, so that a changed working copy counts as another version.

    Args:
        module: its name; what follows a colon is ignored.
    """
    spec = find_spec(module.partition(":")[0].partition(".")[0])  # finds the package without running it
    if spec is None or spec.origin is None:
        return ""
    origin = Path(spec.origin)
    folder = origin.parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")) if origin.name == "__init__.py" else [origin]:
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
