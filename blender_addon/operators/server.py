# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 2: the server that does the heavy work, and how to stop it."""

from bpy.types import Operator

from .. import preferences, session
from ..errors import ArtistError
from . import grey


class EX4D_OT_connect_server(Operator):
    """Find the EX-4D server on this computer, or start it"""

    bl_idname, bl_label = "ex4d.connect_server", "Connect"

    @classmethod
    def poll(cls, context):
        return grey.enabled(
            cls,
            context,
            # Not while a job waits for a lost server: then this button is the way back.
            lambda context: grey.busy(context) if session.current.is_connected else None,
            lambda _: "Already connecting" if session.current.is_connecting else None,
        )

    def execute(self, context):
        try:
            command = preferences.server_command(context)
        except ArtistError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        # The server of this computer, over 127.0.0.1: Blender's switch for online access is about the internet.
        session.connect(command)
        return {"FINISHED"}


class EX4D_OT_cancel(Operator):
    """Stop the job under way; files of earlier jobs stay as they are"""

    bl_idname, bl_label = "ex4d.cancel", "Cancel"

    @classmethod
    def poll(cls, context):
        return grey.enabled(
            cls,
            context,
            lambda _: None if session.current.job is not None else "No job is under way",
            lambda _: "The job is being cancelled" if session.current.job.is_cancelling else None,
        )

    def execute(self, context):
        session.cancel_job()
        return {"FINISHED"}
