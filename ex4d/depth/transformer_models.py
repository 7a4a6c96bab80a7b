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
from ex4d.depth.weights import Weights, find_weights
from ex4d.document import Json
from ex4d.errors import DepthError, MachineError
from ex4d.progress import ProgressCallback, track
from ex4d.video import Clip

TRANSFORMERS_OPTIONS = ("model", "weights", "batch", "device", "raw")
"""model=OWNER/NAME on the Hugging Face hub. weights=FOLDER: where it lies, when not in the usual places. batch=N frames
at a time. device=NAME. raw=yes: leave the frames as the model answers them, flicker included."""

DEFAULT_MODEL = "depth-anything/Depth-Anything-V2-Small-hf"
GPU_BATCH = 8

# Licences and what they say about paid work, from the models' cards and repositories; anything else is "look it up".
APACHE, NON_COMMERCIAL = ("Apache-2.0", True), ("CC-BY-NC-4.0", False)
LICENCES: dict[str, tuple[str, bool]] = {
    DEFAULT_MODEL: APACHE,
    "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf": APACHE,
    "depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf": APACHE,
    "depth-anything/Depth-Anything-V2-Base-hf": NON_COMMERCIAL,
    "depth-anything/Depth-Anything-V2-Large-hf": NON_COMMERCIAL,
    "depth-anything/Depth-Anything-V2-Metric-Indoor-Base-hf": NON_COMMERCIAL,
    "depth-anything/Depth-Anything-V2-Metric-Indoor-Large-hf": NON_COMMERCIAL,
    "depth-anything/Depth-Anything-V2-Metric-Outdoor-Base-hf": NON_COMMERCIAL,
    "depth-anything/Depth-Anything-V2-Metric-Outdoor-Large-hf": NON_COMMERCIAL,
    "apple/DepthPro-hf": ("Apple's own for this model, which reads as non-commercial: have it checked", False),
}
UNKNOWN_LICENCE = "not known here: look at the model's page before paid work"
SIZES = {DEFAULT_MODEL: "0.1 GB"}  # 24.8 M float32 weights

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
        return self.model.rpartition("/")[2].removesuffix("-hf").replace("-", " ")

    @property
    def licence(self) -> str:
        return LICENCES[self.model][0] if self.model in LICENCES else UNKNOWN_LICENCE

    @property
    def commercial_use(self) -> bool | None:
        return LICENCES[self.model][1] if self.model in LICENCES else None

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
        files = ("config.json", "preprocessor_config.json", "*.safetensors")
        wanted = Weights(self.model, self.label, self.licence, SIZES.get(self.model), files)
        folder = find_weights(wanted, self.weights)
        answers, kind, focal_px = self._answers(folder, clip.frames, progress)
        if not np.isfinite(answers).all():
            raise DepthError(f"{self.label} answered with numbers that are no depth. Check its weights in '{folder}'.")
        disparity = answers if kind == "disparity" else _inverse(answers, self.label)
        if not self.raw and len(disparity) > 1:
            disparity = steadied(disparity, clip.frames, progress)
        origin: dict[str, Any] = {
            "source": self.label,
            "licence": self.licence,
            "commercial_use": self.commercial_use,
            "focal_px": focal_px,
            "parameters": self.cache_key,
            "notices": () if self.model in LICENCES else (f"The licence of {self.model} is {UNKNOWN_LICENCE}.",),
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
