# SPDX-License-Identifier: Apache-2.0
"""The network of another device's process, where torchvision has to be let in first."""

from typing import Any

import torch
import torchvision_shim  # noqa: F401

from ex4d.generation.wan.parallel import Network


def network(device: torch.device, **arguments: Any) -> Network:
    from ex4d.generation.wan.sharing import shared_network

    torch.set_num_threads(1)
    return shared_network(device, **arguments)
