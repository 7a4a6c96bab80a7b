# SPDX-License-Identifier: Apache-2.0
"""What the tests of every environment need before they import anything else."""

import torchvision_shim  # noqa: F401
