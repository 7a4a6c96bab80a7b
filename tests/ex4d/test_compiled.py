# SPDX-License-Identifier: Apache-2.0
"""Compiled loops are kept on disk until a source that they were made of changes."""

import subprocess
import sys

HELPER = """
from ex4d.compiled import compiled
from limits import STEP
@compiled
def stepped(x):
    return x + STEP * {factor}
"""
USER = """
from ex4d.compiled import compiled
from helper import stepped
@compiled
def twice(x):
    return 2 * stepped(x)
"""
ASK = "from user import twice; print(twice(1), sum(twice.stats.cache_hits.values()))"


def test_a_change_in_another_file_or_in_a_constant_is_compiled_again(tmp_path):
    (tmp_path / "limits.py").write_text("STEP = 1\n")
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "helper.py").write_text(HELPER.format(factor=1))
    (tmp_path / "user.py").write_text(USER)

    def ask():
        done = subprocess.run([sys.executable, "-c", ASK], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.split()

    assert ask() == ["4", "0"]
    assert ask() == ["4", "1"]  # what the first process kept
    (tmp_path / "helper.py").write_text(HELPER.format(factor=3))
    assert ask() == ["8", "0"]
    (tmp_path / "__init__.py").write_text("FAR = 2\n")  # where packages have their constants
    assert ask() == ["8", "0"]
