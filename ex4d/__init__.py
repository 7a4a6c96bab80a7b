# SPDX-License-Identifier: Apache-2.0
"""EX-4D: re-shoot a filmed plate from a new camera. The method as a library: no sockets, no Blender."""

__version__ = "0.1.0"
