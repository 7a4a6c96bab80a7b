# SPDX-License-Identifier: Apache-2.0
"""What all tests of the library share: nothing of the user's own folders is touched."""

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Found depth goes to a folder of this run; processes that tests start inherit it."""
    os.environ["EX4D_CACHE"] = str(tmp_path_factory.mktemp("cache"))
