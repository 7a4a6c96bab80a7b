# SPDX-License-Identifier: Apache-2.0
"""Depth from any model that the package transformers calls a depth estimator, steadied over time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ex4d.depth.alignment import steadied
from ex4d.depth.clip import DepthClip, DisparityClip, SourceOptions
from ex4d.depth.device import need_packages, torch_device
from ex4d.depth.known import number, switch
from ex4d.document import Json
from ex4d.errors import DepthError, MachineError
from ex4d.models import DEPTH_ESTIMATORS, MODELS, UNKNOWN_LICENCE, depth_estimator, find_weights
from ex4d.progress import ProgressCallback, track
from ex4d.video import Clip

TRANSFORMERS_OPTIONS = ("model", "weights", "batch", "device", "raw")
"""model=OWNER/NAME on the Hugging Face hub. weights=FOLDER: where it lies, when not in the usual places. batch=N frames
at a time. device=NAME. raw=yes: leave the frames as the model answers them, flicker included."""

DEFAULT_MODEL = MODELS["depth-anything"].repository
GPU_BATCH = 8

Answer = Literal["disparity", "metres"]
# What each kind of model answers, from transformers 5.23; Depth Anything says it in its configuration.
ANSWERS: dict[str, Answer] = {"dpt": "disparity", "depth_pro": "metres", "glpn": "metres", "zoedepth": "metres"}


@dataclass(frozen=True)
class TransformersDepth:
    """Looks at each frame for itself, then takes the flicker out."""

    model: str = DEFAULT_MODEL
    weights: Path | None = None
    batch: int | None = None
    device: str = "auto"
    raw: bool = False

    name = "transformers"

    @classmethod
    def made_of(cls, options: SourceOptions) -> "TransformersDepth":
        values = options.values
        batch = number(values, "batch", None)
        if batch is not None and (batch < 1 or batch != int(batch)):
            raise DepthError(f"The depth option batch must be a whole number above zero, got '{values['batch']}'.")
        model = values.get("model", DEFAULT_MODEL)
        if "weights" not in values and model.count("/") != 1:
            raise DepthError(f"The depth option model must be OWNER/NAME on the Hugging Face hub, got '{model}'.")
        return cls(
            model,
            Path(values["weights"]) if "weights" in values else None,
            None if batch is None else int(batch),
            values.get("device", "auto"),
            switch(values, "raw"),
        )

    @property
    def label(self) -> str:
        return depth_estimator(self.model).what

    @property
    def licence(self) -> str:
        return depth_estimator(self.model).licence

    @property
    def commercial_use(self) -> bool | None:
        return depth_estimator(self.model).commercial_use

    @property
    def cache_key(self) -> dict[str, Json]:
        return {"model": self.model, "weights": str(self.weights) if self.weights else None, "raw": self.raw}

    def estimate(self, clip: Clip, progress: ProgressCallback | None = None) -> DepthClip | DisparityClip:
        """Ask the model for every frame.

        Raises:
            MachineError: the packages or the weights are not there.
            DepthError: the model is of a kind that is not supported, or its answers are no depth.
        """
        need_packages(self.label, "torch", "transformers")
        folder = find_weights(depth_estimator(self.model), self.weights)
        answers, kind, focal_px = self._answers(folder, clip.frames, progress)
        if not np.isfinite(answers).all():
            raise DepthError(f"{self.label} answered with numbers that are no depth. Check its weights in '{folder}'.")
        disparity = answers if kind == "disparity" else _inverse(answers, self.label)
        if not self.raw and len(disparity) > 1:
            disparity = steadied(disparity, clip.frames, progress)
        known = self.model in DEPTH_ESTIMATORS
        notices = () if known else (f"The licence of {self.model} is {UNKNOWN_LICENCE}.",)
        origin: dict[str, Any] = {
            "source": self.label,
            "licence": self.licence,
            "commercial_use": self.commercial_use,
            "focal_px": focal_px,
            "parameters": self.cache_key,
            "notices": notices,
        }
        if kind == "disparity":
            return DisparityClip(disparity=disparity, **origin)
        # Aligning may push the farthest pixels past infinity: nothing lies farther than the model ever said.
        return DepthClip(depth=1 / np.maximum(disparity, 1 / answers.max()), kind="metric", **origin)

    def _answers(
        self, folder: Path, frames: NDArray[np.uint8], progress: ProgressCallback | None
    ) -> tuple[NDArray[np.float32], Answer, float | None]:
        """What the model says about each frame [T, H, W], what that is, and its focal length in pixels."""
        import torch
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForDepthEstimation

        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise DepthError(f"'{folder}' holds no model that transformers can read: {error}") from error
        kind = answer_kind(config, self.model)
        if config.model_type == "depth_pro":
            need_packages(self.label, "torchvision")
        device = torch_device(self.device)
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForDepthEstimation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype
        )
        model = model.to(device).eval()
        batch = self.batch or (GPU_BATCH if device.type == "cuda" else 1)
        size = frames.shape[1:3]
        answers = np.empty(frames.shape[:3], np.float32)
        focal: list[float] = []
        starts = range(0, len(frames), batch)
        try:
            with torch.inference_mode():
                for start in track(starts, f"Looking with {self.label}", progress):
                    pictures = list(frames[start : start + batch])
                    inputs = processor(images=pictures, return_tensors="pt")
                    outputs = model(inputs["pixel_values"].to(device, dtype))
                    sizes = {"target_sizes": [size] * len(pictures)}
                    if config.model_type == "zoedepth":  # it pads, and takes the padding off again
                        sizes["source_sizes"] = sizes["target_sizes"]
                    for i, answer in enumerate(processor.post_process_depth_estimation(outputs, **sizes)):
                        answers[start + i] = answer["predicted_depth"].float().cpu().numpy()
                        if answer.get("focal_length") is not None:
                            focal.append(float(answer["focal_length"]))
        except torch.cuda.OutOfMemoryError as error:
            raise MachineError(
                f"{self.label} does not fit into the GPU's memory with {batch} frames at a time. Use batch=1."
            ) from error
        return answers, kind, float(np.median(focal)) if focal else None


def answer_kind(config: Any, model: str) -> Answer:
    """What a model of this configuration answers.

    Raises:
        DepthError: it is of a kind whose answers nobody has checked here.
    """
    if config.model_type == "depth_anything":
        return "metres" if config.depth_estimation_type == "metric" else "disparity"
    if config.model_type not in ANSWERS:
        raise DepthError(
            f"'{model}' is a {config.model_type} model. Supported: depth_anything, {', '.join(sorted(ANSWERS))}."
        )
    return ANSWERS[config.model_type]


def _inverse(metres: NDArray[np.float32], label: str) -> NDArray[np.float32]:
    wrong = int(np.count_nonzero(metres <= 0))
    if wrong:
        raise DepthError(f"{label} put {wrong} of {metres.size} pixels at or behind the camera. Use another model.")
    return np.asarray(1 / metres, np.float32)
