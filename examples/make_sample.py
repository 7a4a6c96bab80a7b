# SPDX-License-Identifier: Apache-2.0
"""Make examples/sample: a plate, its true depth and camera, and true pictures from a second, moving camera.

Two steps, because Blender's module and PyAV live in different environments:

    .venv-blender/bin/python examples/make_sample.py render --frames build/sample     (about 15 minutes on two cores)
    .venv/bin/python examples/make_sample.py pack --frames build/sample               (seconds)
"""

import argparse
from pathlib import Path

SAMPLE = Path(__file__).parent / "sample"


def main() -> None:
    """Read the command line and run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("render", "pack"))
    parser.add_argument("--frames", type=Path, required=True, help="folder for the rendered frames")
    parser.add_argument("--samples", type=int, default=20, help="light paths per pixel (render)")
    parser.add_argument("--out", type=Path, default=SAMPLE, help="folder for the finished sample (pack)")
    options = parser.parse_args()
    if options.step == "render":
        from sample_scene.render import render_sample  # needs bpy

        render_sample(options.frames.resolve(), options.samples)
    else:
        from sample_scene.pack import pack_sample  # needs ex4d

        pack_sample(options.frames, options.out)


if __name__ == "__main__":
    main()
