# SPDX-License-Identifier: Apache-2.0
"""What all tests of the library share: nothing of the user's own folders is touched."""

import os

import pytest
from measured_take import small_views, write_painted


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Found depth goes to a folder of this run; processes that tests start inherit it."""
    os.environ["EX4D_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def small():
    """The views of a small plate with true depth."""
    return small_views()


@pytest.fixture(scope="module")
def painted(small, tmp_path_factory):
    """A shot of them with a painted take `one`, and the truth beside it."""
    folder = tmp_path_factory.mktemp("shot")
    write_painted(folder, small)
    return folder
