# SPDX-License-Identifier: GPL-3.0-or-later
"""EX-4D Reshoot: re-shoot a filmed plate with a new camera.

A thin skin: operators turn the scene into plain data and plain data into the scene, `session` carries it to the
server and back, panels draw what `properties` remembers.
"""

from . import coverage_strip, estimates, operators, panels, preferences, properties, session, take_queue, thumbnails

MODULES = (properties, preferences, operators, panels, coverage_strip, estimates, take_queue, thumbnails)


def register():
    for module in MODULES:
        module.register()


def unregister():
    session.close()
    for module in reversed(MODULES):
        module.unregister()
