# SPDX-License-Identifier: Apache-2.0
"""Wan2.1 with the EX-4D adapter: diffsynth's networks, our own denoise loop."""
