# SPDX-License-Identifier: Apache-2.0
"""The arrows of the design, and what may not appear anywhere: blender_addon -> shared_protocol <- server -> ex4d."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("blender_addon", "shared_protocol", "server", "ex4d")
ALLOWED = {
    "blender_addon": {"blender_addon", "shared_protocol"},
    "shared_protocol": {"shared_protocol"},
    "server": {"server", "shared_protocol", "ex4d"},
    "ex4d": {"ex4d"},
}
FILES = [
    pytest.param(path, id=str(path.relative_to(ROOT))) for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))
]


def imports_of(path: Path) -> set[str]:
    """Top-level names of the absolute imports in a file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", FILES)
def test_imports_point_one_way(path):
    part = path.relative_to(ROOT).parts[0]
    assert not (imports_of(path) & set(PARTS)) - ALLOWED[part]


@pytest.mark.parametrize("path", FILES)
def test_only_the_add_on_knows_blender_and_only_ex4d_knows_torch(path):
    part = path.relative_to(ROOT).parts[0]
    forbidden = {"bpy", "mathutils"} if part != "blender_addon" else set()
    if part != "ex4d":
        forbidden |= {"torch"}
    assert not imports_of(path) & forbidden


@pytest.mark.parametrize("path", sorted((ROOT / "shared_protocol").rglob("*.py")), ids=lambda path: path.name)
def test_the_protocol_needs_only_the_standard_library_zeromq_and_msgpack(path):
    assert imports_of(path) <= set(sys.stdlib_module_names) | {"zmq", "msgpack"}


@pytest.mark.parametrize("path", FILES)
def test_every_file_names_its_licence(path):
    licence = "GPL-3.0-or-later" if path.relative_to(ROOT).parts[0] == "blender_addon" else "Apache-2.0"
    assert path.read_text(encoding="utf-8").splitlines()[0] == f"# SPDX-License-Identifier: {licence}"


@pytest.mark.parametrize("path", FILES)
def test_no_file_loads_code_from_data_or_starts_a_shell(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            assert module not in {"pickle", "marshal", "shelve", "dill"}
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            assert name not in {"eval", "exec"}
            assert not name.endswith(("recv_pyobj", "send_pyobj"))
            assert not keywords.get("shell")
            assert not keywords.get("allow_pickle")
            if name == "torch.load":
                assert keywords.get("weights_only") is True
