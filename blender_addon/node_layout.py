# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the nodes of a tree stand, so that an artist can read it."""

from collections import Counter

COLUMN_WIDTH, ROW_HEIGHT = 220, 240  # of Blender's node editor; an image texture node is the tallest of ours


def lay_out(tree):
    """Put each node of a tree without loops left of everything that it feeds."""
    columns = dict.fromkeys(tree.nodes, 0)
    for _ in columns:  # no path is longer than there are nodes
        for link in tree.links:
            columns[link.from_node] = max(columns[link.from_node], columns[link.to_node] + 1)
    rows = Counter()
    for node, column in columns.items():
        node.location = (-COLUMN_WIDTH * column, -ROW_HEIGHT * rows[column])
        rows[column] += 1
