# SPDX-License-Identifier: GPL-3.0-or-later
"""The server that does the heavy work: which one, reaching it, and how to stop what it does."""

import bpy
from bpy.props import StringProperty
from bpy.types import Operator

from .. import servers, session
from ..server_words import label_of
from ..session import Step
from . import grey
from .step import StepOperator


def already_connecting(context):
    return "Already connecting" if session.current.is_connecting else None


def busy_connected(context):
    """Not while a job waits for a lost server: then the button is the way back."""
    return grey.busy(context) if session.current.is_connected else None


def job_elsewhere(context):
    server, job = session.current.server.name, session.current.job
    if job is None or server == context.scene.ex4d.server:
        return None
    return f"{job.title} is under way on {label_of(server)}: wait for it or cancel it first"


def jobs_there(context):
    name = context.scene.ex4d.server
    if session.current.has_jobs and session.current.server.name == name:
        return f"Jobs are under way on {label_of(name)}: wait for them or cancel them first"
    return None


def no_job(context):
    return None if session.current.job is not None else "No job is under way"


def already_cancelling(context):
    return "The job is being cancelled" if session.current.job.is_cancelling else None


class EX4D_OT_connect_server(StepOperator, Operator):
    """Find the EX-4D server of this computer or start it; or reach the paired server that is chosen"""

    bl_idname, bl_label = "ex4d.connect_server", "Connect"
    reasons = (job_elsewhere, busy_connected, already_connecting)

    def start(self, context):
        servers.connect(context)


class EX4D_OT_choose_server(StepOperator, Operator):
    """Choose where this scene's jobs run: on this computer, or on one that you have paired with"""

    bl_idname, bl_label = "ex4d.choose_server", "Choose Server"
    reasons = (grey.busy, already_connecting)

    def start(self, context):
        servers.look(self.open_menu)

    @staticmethod
    def open_menu():
        if not bpy.app.background:  # else nobody sees it, and Blender crashes
            with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):  # a timer has none of its own
                bpy.ops.wm.call_menu(name="EX4D_MT_servers")


class EX4D_OT_use_server(StepOperator, Operator):
    """Let this scene's jobs run there, and connect"""

    bl_idname, bl_label = "ex4d.use_server", "Use Server"
    bl_options = {"INTERNAL", "UNDO"}
    step, reasons = Step.SERVER, (grey.busy, already_connecting)

    name: StringProperty(name="Name", description="Empty: the server of this computer", options={"SKIP_SAVE"})

    def start(self, context):
        context.scene.ex4d.server = self.name
        servers.connect(context)


class EX4D_OT_pair_server(StepOperator, Operator):
    """Let this computer use a server on another one, by the line that `ex4d server pair` printed there"""

    bl_idname, bl_label = "ex4d.pair_server", "Pair with a Server"
    step, reasons = Step.SERVER, (grey.busy, already_connecting)

    line: StringProperty(
        name="Pairing Line",
        description=(
            "The whole line from the server's user: ex4d/ADDRESS/KEY/CODE, with or without the command before it. It "
            "works once, for a few minutes"
        ),
        options={"SKIP_SAVE"},
    )

    def invoke(self, context, event):
        return context.window_manager.invoke_props_dialog(self, width=500)

    def start(self, context):
        servers.pair(context.scene, self.line)


class EX4D_OT_forget_server(StepOperator, Operator):
    """Drop what this computer needs to reach the chosen server, and use this computer's own"""

    bl_idname, bl_label = "ex4d.forget_server", "Forget Server"
    step, reasons = Step.SERVER, (jobs_there, grey.busy, already_connecting)

    def invoke(self, context, event):
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=f"Forget {label_of(context.scene.ex4d.server)}?",
            message="To use it again you will need a new pairing line from its user.",
            confirm_text="Forget",
        )

    def start(self, context):
        servers.forget(context.scene)


class EX4D_OT_cancel(StepOperator, Operator):
    """Stop the job under way; files of earlier jobs stay as they are"""

    bl_idname, bl_label = "ex4d.cancel", "Cancel"
    reasons = (no_job, already_cancelling)

    def start(self, context):
        session.cancel_job()
