# SPDX-License-Identifier: Apache-2.0
"""Every model whose weights this library can use: what it is for, under which licence, which files it needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ex4d.errors import InputError


@dataclass(frozen=True)
class Model:
    """A repository on the Hugging Face hub, and what an artist must know before fetching it."""

    name: str  # on the command line
    repository: str  # owner/name
    what: str  # "DepthCrafter", as shown to the artist
    purpose: str  # what it is for
    licence: str
    commercial_use: bool | None  # whether that allows paid work; None when nobody here can say
    files: tuple[str, ...]  # patterns relative to its root; each must be there at least once
    size_gb: float | None  # of these files together; None when not known here
    note: str = ""  # what else fetching needs
    needs: tuple[str, ...] = ()  # models without which it is of no use
    sha256: Mapping[str, str] = field(default_factory=dict)  # published, by file
    tensors: Mapping[str, int] = field(default_factory=dict)  # how many a file must hold, where that is known

    @property
    def size(self) -> str:
        """For people."""
        if self.size_gb is None:
            return "size not known here"
        return f"{self.size_gb:.1f} GB" if self.size_gb >= 0.1 else f"{self.size_gb * 1000:.0f} MB"

    @property
    def page(self) -> str:
        """Where its licence stands."""
        return f"https://huggingface.co/{self.repository}"

    @property
    def command(self) -> str:
        """The shell command that fetches it."""
        return f"ex4d models download {self.name}"


T5 = "models_t5_umt5-xxl-enc-bf16.pth"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
VAE = "Wan2.1_VAE.pth"
TOKENIZER = "google/umt5-xxl"
WAN_SHARDS = tuple(f"diffusion_pytorch_model-{shard:05d}-of-00007.safetensors" for shard in range(1, 8))
EX4D_ADAPTER = "ex4d.ckpt"
TINY_DECODER = "taew2_1.safetensors"
DRAFT_LORA = "loras/Wan21_I2V_14B_lightx2v_cfg_step_distill_lora_rank64.safetensors"

# The same files lie in all of Wan-AI's 2.1 repositories; sums as the hub states them, noted alike by many who use them.
WAN_SHA256 = {
    T5: "7cace0da2b446bbbbc57d031ab6cf163a3d59b366da94e5afe36745b746fd81d",
    CLIP: "628c9998b613391f193eb67ff68da9667d75f492911e4eb3decf23460a158c38",
    VAE: "38071ab59bd94681c686fa51d75a1968f64e470262043be31f7a094e442fd981",
    f"{TOKENIZER}/tokenizer.json": "6e197b4d3dbd71da14b4eb255f4fa91c9c1f2068b20a2de2472967ca3d22602b",
}

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            name="wan",
            repository="Wan-AI/Wan2.1-I2V-14B-480P",
            what="Wan2.1 image to video",
            purpose="paints what the plate never saw, with ex4d",
            licence="Apache-2.0",
            commercial_use=True,
            files=(
                "config.json",
                "diffusion_pytorch_model.safetensors.index.json",
                *WAN_SHARDS,
                T5,
                CLIP,
                VAE,
                f"{TOKENIZER}/special_tokens_map.json",
                f"{TOKENIZER}/spiece.model",
                f"{TOKENIZER}/tokenizer.json",
                f"{TOKENIZER}/tokenizer_config.json",
            ),
            size_gb=82.3,
            sha256=WAN_SHA256,
        ),
        Model(
            name="ex4d",
            repository="yihouxiang/EX-4D",
            what="the EX-4D adapter",
            purpose="makes Wan2.1 follow the mesh",
            licence="Apache-2.0, as the release says",
            commercial_use=True,
            files=(EX4D_ADAPTER,),
            size_gb=None,
            needs=("wan",),
            tensors={EX4D_ADAPTER: 808},  # 800 of the LoRA, 8 of the camera encoder
        ),
        Model(
            name="draft",
            repository="lightx2v/Wan2.1-I2V-14B-480P-StepDistill-CfgDistill-Lightx2v",
            what="LightX2V's step-distilled LoRA",
            purpose="the draft quality: few steps without guidance, with wan and ex4d",
            licence="Apache-2.0",
            commercial_use=True,
            files=(DRAFT_LORA,),
            size_gb=0.7,
            needs=("ex4d",),
        ),
        Model(
            name="previews",
            repository="OzzyGT/taew2_1",  # a copy: madebyollin/taehv publishes on GitHub only
            what="TAEHV's tiny decoder for Wan2.1",
            purpose="sharper pictures while wan paints",
            licence="MIT",
            commercial_use=True,
            files=(TINY_DECODER,),
            size_gb=0.023,
            sha256={TINY_DECODER: "04766eac0221b5390b985ae3fdcca652cbb4b1e8b82b28ea7ff89dfad1b1a93f"},
            tensors={TINY_DECODER: 128},
        ),
        Model(
            name="depthcrafter",
            repository="tencent/DepthCrafter",
            what="DepthCrafter",
            purpose="depth that is steady over time, what the EX-4D release uses; with svd",
            licence="academic, research and education only; no production use",
            commercial_use=False,
            files=("config.json", "diffusion_pytorch_model*.safetensors"),
            size_gb=3.1,
            needs=("svd",),
        ),
        Model(
            name="svd",
            repository="stabilityai/stable-video-diffusion-img2vid",
            what="Stable Video Diffusion, whose VAE and image encoder DepthCrafter uses",
            purpose="two parts of depthcrafter",
            licence="Stability AI community licence",
            commercial_use=None,
            files=(
                "vae/config.json",
                "vae/*.fp16.safetensors",
                "image_encoder/config.json",
                "image_encoder/*.fp16.safetensors",
                "scheduler/scheduler_config.json",
            ),
            size_gb=1.5,
            note="accept its licence on its page first, and log in with: hf auth login",
        ),
    )
}

# Licences and what they say about paid work, from the models' cards and repositories; anything else is "look it up".
APACHE, NON_COMMERCIAL = ("Apache-2.0", True), ("CC-BY-NC-4.0", False)
DEFAULT_DEPTH_ESTIMATOR = "depth-anything/Depth-Anything-V2-Small-hf"
DEPTH_ESTIMATORS: dict[str, tuple[str, bool]] = {
    DEFAULT_DEPTH_ESTIMATOR: APACHE,
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
SIZES_GB = {DEFAULT_DEPTH_ESTIMATOR: 0.1}  # 24.8 M float32 weights


def depth_estimator(repository: str) -> Model:
    """Any depth model of the package transformers, by its name on the hub."""
    licence, commercial_use = DEPTH_ESTIMATORS.get(repository, (UNKNOWN_LICENCE, None))
    default = repository == DEFAULT_DEPTH_ESTIMATOR
    return Model(
        name="depth-anything" if default else repository,
        repository=repository,
        what=repository.rpartition("/")[2].removesuffix("-hf").replace("-", " "),
        purpose="depth of any plate, made steady over time" if default else "depth source transformers",
        licence=licence,
        commercial_use=commercial_use,
        files=("config.json", "preprocessor_config.json", "*.safetensors"),
        size_gb=SIZES_GB.get(repository),
    )


MODELS["depth-anything"] = depth_estimator(DEFAULT_DEPTH_ESTIMATOR)


def model_named(name: str) -> Model:
    """A model by its short name, or a depth estimator by OWNER/NAME.

    Raises:
        InputError: there is none of that name.
    """
    if name in MODELS:
        return MODELS[name]
    for model in MODELS.values():
        if model.repository == name:
            return model
    if name.count("/") == 1 and all(name.split("/")):
        return depth_estimator(name)
    raise InputError(
        f"There is no model '{name}'. Choose from {', '.join(MODELS)}, or OWNER/NAME of a depth model on the hub."
    )


def with_needs(names: list[str]) -> list[Model]:
    """These models and all that they need, each once, what is needed first.

    Raises:
        InputError: there is none of a name.
    """
    found: dict[str, Model] = {}

    def add(name: str) -> None:
        model = model_named(name)
        for needed in model.needs:
            add(needed)
        found.setdefault(model.name, model)

    for name in names:
        add(name)
    return list(found.values())
