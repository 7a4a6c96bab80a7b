# SPDX-License-Identifier: Apache-2.0
"""`python -m ex4d`: the command line, for a Python whose scripts are not on the PATH."""

import sys

from ex4d.cli import main

sys.exit(main())
