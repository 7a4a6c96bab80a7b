# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 2: the server that does the heavy work, and how to stop it."""

from bpy.types import Operator

from .. import preferences, session
from . import grey
from .step import StepOperator


def already_connecting(context):
    return "Already connecting" if session.current.is_connecting else None


def busy_connected(context):
    """Not while a job waits for a lost server: then the button is the way back."""
    return grey.busy(context) if session.current.is_connected else None


def no_job(context):
    return None if session.current.job is not None else "No job is under way"


def already_cancelling(context):
    return "The job is being cancelled" if session.current.job.is_cancelling else None


class EX4D_OT_connect_server(StepOperator, Operator):
    """Find the EX-4D server on this computer, or start it"""

    bl_idname, bl_label = "ex4d.connect_server", "Connect"
    reasons = (busy_connected, already_connecting)

    def start(self, context):
        # The server of this computer, over 127.0.0.1: Blender's switch for online access is about the internet.
        session.connect(preferences.server_command(context))


class EX4D_OT_cancel(StepOperator, Operator):
    """Stop the job under way; files of earlier jobs stay as they are"""

    bl_idname, bl_label = "ex4d.cancel", "Cancel"
    reasons = (no_job, already_cancelling)

    def start(self, context):
        session.cancel_job()
