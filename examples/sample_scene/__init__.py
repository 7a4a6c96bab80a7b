# SPDX-License-Identifier: Apache-2.0
"""The procedural scene behind `examples/sample`, its two cameras, and how it is rendered and packed."""
