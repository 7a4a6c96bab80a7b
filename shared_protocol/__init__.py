# SPDX-License-Identifier: Apache-2.0
"""What the add-on and the server say to each other. Standard library, pyzmq and msgpack only; relative imports only.

Start in `messages/` (what is said), then `client.py` (one connection) and `background.py` (what Blender uses).
"""
