# SPDX-License-Identifier: Apache-2.0
"""The tick that accepts a depth model's licence: when it is asked for, that it is sent, and when it is taken back."""

from importlib import import_module

import bpy
import pytest
from conftest import PACKAGE


@pytest.fixture
def refusing(fake):
    """The server's way with a research-only model: only jobs that accept the licence are done."""
    errors = import_module(f"{PACKAGE}.shared_protocol.errors")
    run = fake._run

    def gate(kind, params, inputs, output_folder):
        if kind == "reconstruct" and not params["accept_licence"]:
            raise errors.RemoteError("licence", "This model may not be used for paid work", "Accept its licence.")
        return run(kind, params, inputs, output_folder)

    fake._run = gate
    return fake


@pytest.mark.parametrize("source", ["auto", "preview", "file", "transformers"])
def test_sources_that_allow_paid_work_ask_for_nothing(addon, imported, source):
    imported.depth_source = source
    assert not addon.reconstruction.asks_for_licence(imported)


def test_a_research_only_source_asks_at_once(addon, imported):
    imported.depth_source = "depthcrafter"
    assert addon.reconstruction.asks_for_licence(imported)
    assert not imported.accept_licence, "asking is not accepting"


def test_a_refused_job_says_why_and_asks_then_goes_on(addon, refusing, imported):
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    assert addon.session.current.error == "This model may not be used for paid work. Accept its licence."
    assert addon.reconstruction.asks_for_licence(imported)
    imported.accept_licence = True
    bpy.ops.ex4d.reconstruct()
    assert refusing.submitted[-1][2]["accept_licence"] is True
    assert addon.session.wait(10)
    assert imported.is_reconstructed
    assert addon.reconstruction.asks_for_licence(imported), "what is accepted stays in sight"


def test_any_other_failure_asks_for_no_licence(addon, fake, imported):
    errors = import_module(f"{PACKAGE}.shared_protocol.errors")

    def fail(*job):
        raise errors.RemoteError("machine", "No weights", "Fetch them.")

    fake._run = fail
    bpy.ops.ex4d.reconstruct()
    assert addon.session.wait(10)
    assert not addon.reconstruction.asks_for_licence(imported)


def test_another_source_or_another_plate_has_to_be_accepted_anew(addon, imported, plate_path):
    imported.depth_source, imported.accept_licence = "depthcrafter", True
    imported.depth_source = "auto"
    assert not imported.accept_licence
    imported.depth_source, imported.accept_licence = "depthcrafter", True
    bpy.ops.ex4d.import_plate(filepath=str(plate_path))
    assert imported.depth_source == "depthcrafter"
    assert not imported.accept_licence
