# SPDX-License-Identifier: Apache-2.0
"""The `ex4d` command line as far as the server is concerned, with the tests' jobs: ex4d_command.py server start."""

import argparse
import sys

from server.cli import add_commands

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="ex4d")
    add_commands(parser.add_subparsers(required=True))
    arguments = sys.argv[1:]
    if "start" in arguments:
        arguments += ["--job-runner", "runners:run_job"]
    parsed = parser.parse_args(arguments)
    sys.exit(parsed.run(parsed))
