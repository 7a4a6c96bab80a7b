# SPDX-License-Identifier: Apache-2.0
"""The weights of all models: which there are, where they lie, fetching and checking them. Imports no torch."""

from ex4d.models.places import Found, State, find_weights, look, model_folder, models_root
from ex4d.models.registry import (
    DEPTH_ESTIMATORS,
    MODELS,
    UNKNOWN_LICENCE,
    Model,
    depth_estimator,
    model_named,
    with_needs,
)

__all__ = [
    "DEPTH_ESTIMATORS",
    "MODELS",
    "UNKNOWN_LICENCE",
    "Found",
    "Model",
    "State",
    "depth_estimator",
    "find_weights",
    "look",
    "model_folder",
    "model_named",
    "models_root",
    "with_needs",
]
