# SPDX-License-Identifier: Apache-2.0
"""Two programs that would write one dataset or one run."""

import subprocess
import sys

import pytest

from ex4d.cli import main
from ex4d.errors import InputError
from ex4d.training.lock import only_writer

HOLD = """
import sys, time
from pathlib import Path
from ex4d.training.lock import only_writer
with only_writer(Path(sys.argv[1])):
    print("holding", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another program that writes into the folder `dataset`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "dataset")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "holding\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path, holder, capsys):
    given = ["train", "prepare", str(tmp_path), "--out", str(tmp_path / "dataset")]
    assert main(given) == InputError.exit_code
    assert f"is being written by process {holder.pid} on " in capsys.readouterr().err
    assert not (tmp_path / "dataset").exists()
    with only_writer(tmp_path / "another"):
        pass


def test_a_writer_that_was_killed_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.wait()
    same = tmp_path / "elsewhere" / ".." / "dataset"
    with (
        only_writer(tmp_path / "dataset"),
        pytest.raises(InputError, match="being written by process"),
        only_writer(same),
    ):
        pass
    with only_writer(tmp_path / "dataset"):
        pass
