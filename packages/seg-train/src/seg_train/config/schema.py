"""The schema of a config: one class per section of the TOML file, every key with its meaning and default.

Names (of models, datasets, losses ...) are any strings here; `seg_train.config.check` checks whether they exist and
whether their `params` fit.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)

from seg_core.checks import is_integer, is_number

__all__ = ["TrainConfig"]

# Keys that change where, how fast or how often something happens but not the training result: a run may be resumed with
# other values of them.
WITHOUT_INFLUENCE = (
    "data.check",
    "data.dataset.root",
    "data.loader.num_workers",
    "evaluation.batch_size",
    "import_paths",
    "imports",
    "log",
    "paths",
    "trainer.checkpoint_every_steps",
    "trainer.compile",
    "trainer.device",
    "trainer.keep_checkpoints",
    "trainer.log_every_steps",
    "trainer.snapshots",
)


def _as_size(value: object) -> object:
    sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(sides) != 2 or not all(is_integer(side, 1) for side in sides):
        raise ValueError("must be pixels above 0: one number for a square, or [height, width]")
    if max(sides) > _LONGEST_SIDE:
        raise ValueError(f"must be at most {_LONGEST_SIDE:,} pixels a side")
    return sides


def _as_range(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) == 2 and all(is_number(v) for v in value):
        low, high = value
        if 0 < low <= high:
            return (float(low), float(high))
    raise ValueError("must be two factors above 0, the smaller one first, such as [0.5, 2.0]")


def _as_pair(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) == 2 and all(is_number(v) for v in value):
        return (float(value[0]), float(value[1]))
    raise ValueError("must be two numbers, the smaller one first")


def _as_number_or_pair(value: object) -> object:
    if is_number(value):
        return float(value)
    try:
        return _as_pair(value)
    except ValueError as error:
        raise ValueError("must be a number, or two, the smaller one first") from error


def _as_jitter(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) in (3, 4):
        return tuple(_as_number_or_pair(item) for item in value)
    raise ValueError("must be brightness, contrast, saturation and optionally hue, such as [0.4, 0.4, 0.4, 0.1]")


def _as_scales(value: object) -> object:
    if isinstance(value, list | tuple) and value and all(is_number(v) and v > 0 for v in value):
        return tuple(float(v) for v in value)
    raise ValueError("must be a list of factors above 0, such as [0.75, 1.0, 1.25]")


def _as_class_weights(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and value and all(is_number(v) and v >= 0 for v in value):
        return tuple(float(v) for v in value)
    raise ValueError('must be "none", the name of a scheme such as "enet", or a list of one number >= 0 per class')


_OWN_TRANSFORM = '{name = "my_code:MyTransform", params = {strength = 0.5}}'


def _as_own_transforms(value: object) -> object:
    if value is None or value == []:
        return None
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of tables such as {_OWN_TRANSFORM}")
    for place, item in enumerate(value):
        if isinstance(item, OwnTransformSection):
            continue
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            raise ValueError(f"[{place}] must be a table with a name, such as {_OWN_TRANSFORM}")
        unknown = [key for key in item if key not in ("name", "params")]
        if unknown or not isinstance(item.get("params", {}), Mapping):
            what = f"has the unknown key {unknown[0]!r}" if unknown else "has params that are no table"
            raise ValueError(f"[{place}] {what}; write it as {_OWN_TRANSFORM}")
    return value


def _as_folder_name(value: str) -> str:
    if not value or value in (".", "..") or "/" in value or "\\" in value:
        raise ValueError("must be the name of one folder (paths.output is the folder that it is in)")
    return value


def _as_path(value: str) -> str:
    if found := sorted({character for character in value if character in _ESCAPED}):
        written = "".join(_ESCAPED.get(character, character) for character in value)
        names = ", ".join(_ESCAPED[character] for character in found)
        raise ValueError(
            f'TOML reads {names} in "..." as a control character; write "{written.replace(chr(92), "/")}", or '
            f"'{written}' in single quotes"
        )
    return value


def _described(title: str, *forms: dict[str, Any]) -> WithJsonSchema:
    """Describes a value that may be written in several ways, for editors and the reference page."""
    return WithJsonSchema({"title": title, **(forms[0] if len(forms) == 1 else {"anyOf": list(forms)})})


def _list_of(item: dict[str, Any], minimum: int, maximum: int | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array", "items": item, "minItems": minimum}
    return schema if maximum is None else {**schema, "maxItems": maximum}


# what TOML makes of a backslash and a letter in a path of Windows
_ESCAPED = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_LONGEST_SIDE = 1_000_000
_PIXELS: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": _LONGEST_SIDE}
_NUMBER: dict[str, Any] = {"type": "number"}
_ABOVE_0: dict[str, Any] = {"type": "number", "exclusiveMinimum": 0}
_NUMBER_OR_PAIR: dict[str, Any] = {"anyOf": [_NUMBER, _list_of(_NUMBER, 2, 2)]}

FilePath = Annotated[str, AfterValidator(_as_path)]
Positive = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=1, le=_LONGEST_SIDE)]
Probability = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Size = Annotated[
    tuple[int, int],
    BeforeValidator(_as_size),
    _described("pixels, or [height, width]", _PIXELS, _list_of(_PIXELS, 2, 2)),
]
ScaleRange = Annotated[
    tuple[float, float], BeforeValidator(_as_range), _described("[min, max], above 0", _list_of(_ABOVE_0, 2, 2))
]
Pair = Annotated[tuple[float, float], BeforeValidator(_as_pair), _described("[min, max]", _list_of(_NUMBER, 2, 2))]
NumberOrPair = Annotated[
    float | tuple[float, float],
    BeforeValidator(_as_number_or_pair),
    _described("number, or [min, max]", *_NUMBER_OR_PAIR["anyOf"]),
]
Jitter = Annotated[
    tuple[float | tuple[float, float], ...],
    BeforeValidator(_as_jitter),
    _described("list of 3 or 4 numbers or [min, max]", _list_of(_NUMBER_OR_PAIR, 3, 4)),
]
Scales = Annotated[
    tuple[float, ...], BeforeValidator(_as_scales), _described("list of factors above 0", _list_of(_ABOVE_0, 1))
]
ClassWeights = Annotated[
    str | tuple[float, ...],
    BeforeValidator(_as_class_weights),
    _described("string, or list of numbers", {"type": "string"}, _list_of({"type": "number", "minimum": 0}, 1)),
]


class Section(BaseModel):
    """Base class of all sections: unknown keys and wrong types are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, ser_json_inf_nan="constants")


class ModelSection(Section):
    """The network, as `seg_models.get_model` builds it; `num_classes` comes from the dataset."""

    name: str = Field(description="builder, see `seg models`")
    variant: str | None = Field(default=None, description="variant of the architecture; default: that of the builder")
    weights: FilePath | None = Field(
        default=None, description='weights of the whole network: a member of its enum, "DEFAULT", or a checkpoint file'
    )
    weights_backbone: str | None = Field(
        default=None, description='ImageNet weights of the backbone only: a member of its enum, or "DEFAULT"'
    )
    aux_loss: bool | None = Field(default=None, description="whether to build auxiliary heads; default: no")
    params: dict[str, Any] = Field(default_factory=dict, description="other options of the builder")


class DatasetSection(Section):
    """The images and masks."""

    name: str = Field(description="dataset, see `seg datasets`")
    root: FilePath | None = Field(default=None, description="folder of the dataset; `Shapes` needs none")
    train_split: str = Field(default="train", description="split to train on")
    val_split: str = Field(default="val", description="split to evaluate on")
    params: dict[str, Any] = Field(
        default_factory=dict, description="other options of the dataset, such as `metadata` for your own data"
    )


class ResizeKeys(Section):
    """The keys of a resize, of which one is given."""

    scale: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = Field(
        default=None, description="factor of height and width"
    )
    shorter_side: Side | None = Field(default=None, description="pixels of the shorter side")
    longer_side: Side | None = Field(default=None, description="pixels of the longer side")
    size: Size | None = Field(default=None, description="[height, width] in pixels; the aspect ratio may change")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = self.model_dump(exclude_none=True)
        if len(given) != 1:
            raise ValueError(
                f"give one of scale, shorter_side, longer_side and size, got {', '.join(given) or 'none of them'}"
            )
        return self


class TrainResizeSection(ResizeKeys):
    """Resizing of training images and their masks before the random factor, one of four kinds."""


class OwnTransformSection(Section):
    """A transform of one's own."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


OwnTransforms = Annotated[
    list[OwnTransformSection] | None,
    BeforeValidator(_as_own_transforms),
    WithJsonSchema(
        {
            "title": "list of tables with name and params",
            "anyOf": [
                _list_of(
                    {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "params": {"type": "object"}},
                        "required": ["name"],
                        "additionalProperties": False,
                    },
                    0,
                ),
                {"type": "null"},
            ],
        }
    ),
]


class TransformSection(Section):
    """The random crop of training samples, see `seg_core.SegmentationTransform`."""

    resize: TrainResizeSection | None = Field(
        default=None, description="resizing of every image before the random factor; default: each keeps its size"
    )
    size: Size | None = Field(default=None, description="crop in pixels, [height, width] or one number")
    scale_range: ScaleRange | None = Field(
        default=None, description="range of the random resize factor, applied before the crop"
    )
    cat_max_ratio: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="maximum fraction of a crop's valid pixels that one class may cover: of ten random crops the "
        "first that fulfills it is used, else the last; with rare_classes each attempt is chosen so",
    )
    crops_per_image: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1,
        description="number of random crops of each image in an epoch; for images much larger than a crop. Needs size",
    )
    custom: OwnTransforms = Field(
        default=None,
        description="transforms of your own, applied in this order to image and mask after the crop: "
        '`[{name = "my_code:MyTransform", params = {}}]`, see docs/training.md',
    )

    def crop_options(self) -> dict[str, Any]:
        """Returns the arguments of `SegmentationTransform` that are set."""
        return self.model_dump(exclude_none=True, exclude={"custom", "crops_per_image"})


class TransformsSection(Section):
    """The transforms of samples; `[evaluation]` has the resizing of val images."""

    train: TransformSection = TransformSection()


class LoaderSection(Section):
    """The data loader."""

    batch_size: Positive = Field(
        default=8, description="samples of one step, over all processes and accumulation steps"
    )
    num_workers: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=2, description="worker processes that read samples; 0 reads in the main process"
    )


class SamplingSection(Section):
    """Sampling of an epoch: each sample once, or by class, see `seg_train.data.rare_classes`."""

    rare_classes: bool = Field(default=False, description="sample images and crops by class, rare classes more often")
    temperature: Annotated[float, Field(gt=0)] = Field(
        default=0.01, description="sampling temperature; a lower one samples rare classes more often"
    )
    min_pixels: Annotated[int, Field(ge=0)] = Field(
        default=1500, description="minimum pixels of the sampled class in an image and its crop"
    )
    attempts: Positive = Field(default=10, description="maximum number of crops to draw for a sample")


class AugmentSection(Section):
    """Augmentation, see `seg_core.SegmentationAugment`."""

    hflip: Probability = Field(default=0.0, description="probability of a horizontal flip")
    vflip: Probability = Field(default=0.0, description="probability of a vertical flip")
    rotation_range: Pair = Field(default=(0.0, 0.0), description="range of the rotation angle in degrees")
    zoom_range: Pair = Field(default=(1.0, 1.0), description="range of the zoom factor around the center")
    perspective: Probability = Field(default=0.0, description="strength of the perspective distortion, 0 to 1")
    blur: NumberOrPair = Field(default=0.0, description="standard deviation of the blur in pixels: maximum, or range")
    color_jitter: Jitter = Field(
        default=(0.0, 0.0, 0.0, 0.0),
        description="brightness, contrast, saturation[, hue]: each a number as in torchvision, or a range",
    )
    auto_contrast: Probability = Field(
        default=0.0, description="probability of automatic contrast: stretching to the full range"
    )
    brightness_shift: NumberOrPair = Field(
        default=0.0,
        description="range of a number added to all channels, as a fraction of the full range: d for -d to d",
    )
    color_jitter_probability: Probability = Field(
        default=1.0, description="probability of each part of color_jitter, and of brightness_shift"
    )


class DataSection(Section):
    """Datasets, transforms and loading."""

    check: Literal["auto", "full", "sample", "off"] = Field(
        default="auto",
        description="which masks of a new run are read before the first step, and headers of images, to find ids that "
        "are no class, classes that never occur and files that are wrong: full all, sample 2,000 spread over the "
        "split, auto all if that is predicted to take less than a minute, else the sample; what a file contains is "
        "remembered for later runs",
    )
    dataset: DatasetSection
    transform: TransformsSection = TransformsSection()
    loader: LoaderSection = LoaderSection()
    sampling: SamplingSection = SamplingSection()
    augment: AugmentSection = AugmentSection()


class OutputSection(Section):
    """The loss of one output of the network, such as `boundary` or `aux_16x`."""

    weight: Factor = Field(default=1.0, description="factor of the output's loss; 0 ignores the output")
    name: str | None = Field(default=None, description="loss; default: that of [criterion]")
    params: dict[str, Any] = Field(default_factory=dict, description="other options of the loss")

    @model_validator(mode="after")
    def _params_have_a_name(self) -> "OutputSection":
        if self.params and self.name is None:
            raise ValueError("params need a loss: set its name, or remove params")
        return self


class CriterionSection(Section):
    """The loss."""

    name: str = Field(
        default="CrossEntropyLoss",
        description="loss; default for datasets of a binary or multilabel task: BinaryCrossEntropyLoss",
    )
    class_weights: ClassWeights = Field(
        default="none", description='"none", a scheme such as "enet", or one number per class'
    )
    aux_weight: Factor = Field(default=0.4, description="factor of each auxiliary output's loss")
    boundary_aware_weight: Factor = Field(
        default=0.0, description="factor of the loss near the boundaries that `boundary` predicts, as in PIDNet"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="other options of the loss")
    outputs: dict[str, OutputSection] = Field(
        default_factory=dict, description="loss and weight of single outputs, by name"
    )


class OptimizerSection(Section):
    """The optimizer."""

    name: str = Field(default="AdamW", description="optimizer of torch.optim, or Padam")
    params: dict[str, Any] = Field(default_factory=dict, description="its arguments, such as lr and weight_decay")
    backbone_lr_factor: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="factor of the backbone's learning rate"
    )
    decay_norms_and_biases: bool = Field(
        default=True, description="whether weight decay applies to biases and normalization layers"
    )


class SchedulerSection(Section):
    """The learning-rate scheduler; without this section the learning rate is constant."""

    name: str = Field(description="scheduler of torch.optim.lr_scheduler")
    interval: Literal["step", "epoch"] = Field(default="step", description="unit of the scheduler: steps or epochs")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(default=0, description="steps of linear warm-up at the beginning")
    warmup_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.001, description="factor of the learning rate at the start of the warm-up"
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="its arguments. By default the length (total_iters of PolynomialLR, SequentialLR and "
        "ChainedScheduler, T_max of CosineAnnealingLR, total_steps of OneCycleLR) is that of the run, and max_lr of "
        "OneCycleLR is the optimizer's lr. OneCycleLR and PolynomialLR must not end before the run. Write functions as "
        "package.module:function",
    )


class TrainerSection(Section):
    """The training loop."""

    epochs: Positive | None = Field(default=None, description="total length of the run in epochs; set this or steps")
    steps: Positive | None = Field(default=None, description="total length of the run in steps; set this or epochs")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(default=0, description="random seed of the run")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="device to train on")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="precision of the computation; weights are fp32. auto is bf16 if the hardware supports it, else "
        "fp32; fp16 needs a GPU and scales the loss",
    )
    channels_last: bool = Field(default=True, description="NHWC memory format, for faster convolutions")
    compile: bool = Field(default=False, description="compile the network of the training step with torch.compile")
    deterministic: bool = Field(
        default=False,
        description="use deterministic algorithms if torch has them; a warning names operations without one",
    )
    accumulation_steps: Positive = Field(
        default=1, description="micro-batches per step (gradient accumulation), to save memory"
    )
    max_grad_norm: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="clip gradients to this norm; default: no clipping"
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="decay per step of an exponential moving average (EMA) of the weights, such as 0.999; the EMA is "
        "evaluated and saved too. Default: no EMA",
    )
    sync_batch_norm: bool = Field(default=True, description="synchronize batch norm over all GPUs")
    strategy: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="strategy for several processes: ddp averages gradients, fsdp also shards weights and "
        "optimizer state, for networks too large for one GPU",
    )
    checkpoint_every_steps: Positive | None = Field(
        default=None, description="steps between additional checkpoints within an epoch"
    )
    keep_checkpoints: Positive = Field(default=2, description="number of last checkpoints to keep")
    log_every_steps: Positive = Field(default=10, description="steps per row of step metrics")
    snapshots: Annotated[int, Field(ge=0)] = Field(default=4, description="val images to draw after each evaluation")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainerSection":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"give exactly one of trainer.epochs and trainer.steps, got epochs={self.epochs} and steps={self.steps}"
                + (
                    ""
                    if self.epochs is None
                    else "; unset one with -s trainer.epochs=none or -s trainer.steps=none, or give the length as "
                    f"--epochs {self.epochs} or --steps {self.steps} of seg train, which replace what the config has"
                )
            )
        return self


class ResizeSection(ResizeKeys):
    """Resizing of val images before the network, one of four kinds; by default each image keeps its size.

    Masks are never resized: the logits are resized to the mask. The trained model resizes images in the same way.
    """


class EvaluationSection(Section):
    """How and how often the weights are evaluated on val; the end of the run always evaluates."""

    resize: ResizeSection | None = Field(
        default=None, description="resizing of val images; default: each keeps its size"
    )
    tile: Size | None = Field(
        default=None,
        description="predict in tiles of this size in pixels, [height, width] or one number; default: whole images",
    )
    overlap: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="fraction of a tile that overlaps with the next one; default: 0.5"
    )
    scales: Scales | None = Field(default=None, description="scales of test-time augmentation, such as [0.75, 1]")
    hflip: bool = Field(default=False, description="test-time augmentation with flipped images")
    batch_size: Positive = Field(
        default=1, description="images per batch of one process; images of different sizes are processed one by one"
    )
    loss: bool = Field(
        default=True, description="whether to compute val_loss, which needs the logits at the size of the masks"
    )
    tune_threshold: bool = Field(
        default=False,
        description="for binary and multilabel tasks: whether each evaluation chooses the threshold of each class with "
        "the highest IoU on val, which the model file keeps; default: 0.5",
    )
    predictor: str = Field(
        default="whole", description="name of a registered predictor; not together with tile, overlap, scales and hflip"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="arguments of the predictor")
    every_epochs: Positive | None = Field(
        default=None, description="epochs between evaluations; default: 1, unless every_steps is set"
    )
    every_steps: Positive | None = Field(default=None, description="steps between evaluations")
    monitor: str | None = Field(
        default=None,
        description="score that selects the best weights, such as miou, val_loss or iou_per_class.road; the "
        "prefix ema_ selects the score of the EMA. Default: miou, with an EMA the better one of miou and ema_miou",
    )
    patience: Positive | None = Field(
        default=None, description="stop after this many evaluations without a better score; default: never"
    )
    min_delta: Factor = Field(
        default=0.0, description="minimum improvement over the last score that counted as better for patience"
    )

    @model_validator(mode="after")
    def _one_way(self) -> "EvaluationSection":
        if self.overlap is not None and self.tile is None:
            raise ValueError(f"overlap = {self.overlap} needs tiles: set tile too, or remove overlap")
        short = [name for name in ("tile", "scales") if getattr(self, name) is not None] + ["hflip"] * self.hflip
        if short and (self.predictor != "whole" or self.params):
            own = f'predictor = "{self.predictor}"' if self.predictor != "whole" else "params"
            raise ValueError(f"{own} cannot be used together with {', '.join(short)}: remove one or the other")
        return self

    @model_validator(mode="after")
    def _one_period(self) -> "EvaluationSection":
        if self.every_epochs is not None and self.every_steps is not None:
            raise ValueError(
                f"give one of evaluation.every_epochs and evaluation.every_steps, got {self.every_epochs} and "
                f"{self.every_steps}"
            )
        return self


class PathsSection(Section):
    """Where results are written."""

    output: FilePath = Field(default="runs", description="folder that run folders are in")
    run: Annotated[str, AfterValidator(_as_folder_name)] | None = Field(
        default=None, description="name of the run folder; default: model-dataset-time"
    )


class TrainConfig(Section):
    """The config of a run."""

    imports: list[str] = Field(
        default_factory=list, description="modules of your own, imported before names are looked up"
    )
    import_paths: list[str] = Field(
        default_factory=list,
        description="folders that are searched for your own code first, relative to this file; those of the config's "
        "files and the current folder are added",
    )
    model: ModelSection
    data: DataSection
    criterion: CriterionSection = CriterionSection()
    optimizer: OptimizerSection = OptimizerSection()
    lr_scheduler: SchedulerSection | None = None
    trainer: TrainerSection
    evaluation: EvaluationSection = EvaluationSection()
    paths: PathsSection = PathsSection()
    log: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="options per logger; `local` is always on, others can be switched off with enabled = false",
    )

    def to_dict(self) -> dict[str, Any]:
        """Returns the config as plain containers that TOML can store, without the keys that are None."""
        tables = self.model_dump(mode="json", exclude_none=True)
        return {key: value for key, value in tables.items() if value or key not in ("imports", "import_paths")}

    def influences(self) -> dict[str, Any]:
        """Returns full key -> value of everything that influences the training result."""
        return {k: v for k, v in flatten(self.to_dict()).items() if has_influence(k)}


def has_influence(key: str) -> bool:
    """Returns whether the value of a full key influences the training result."""
    return not any(key == other or key.startswith(other + ".") for other in WITHOUT_INFLUENCE)


def section_class(annotation: Any) -> type[BaseModel] | None:
    """Returns the section class of a field with this annotation, or None for a plain value."""
    candidates = [annotation, *get_args(annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def has_section(tables: Mapping[str, Any], key: str) -> bool:
    """Returns whether nested tables have the section of a full key; a section that is not optional always exists."""
    section: type[BaseModel] | None = TrainConfig
    table: Any = tables
    for part in key.split(".")[:-1]:
        field = None if section is None else section.model_fields.get(part)
        optional = field is None or field.default is None
        table = table.get(part) if isinstance(table, Mapping) else None
        if table is None and optional:
            return False
        section = None if field is None else section_class(field.annotation)
    return True


def default_of(key: str) -> Any:
    """Returns the default of a full key as `TrainConfig.to_dict` has it, or None if it has none."""
    section: type[BaseModel] | None = TrainConfig
    *path, last = key.split(".")
    for part in path:
        field = None if section is None else section.model_fields.get(part)
        section = None if field is None else section_class(field.annotation)
    field = None if section is None else section.model_fields.get(last)
    if field is None or field.is_required() or section_class(field.annotation) is not None:
        return None
    default = field.get_default(call_default_factory=True)
    return TypeAdapter(Any).dump_python(default, mode="json")


def all_keys() -> list[str]:
    """Returns the full keys of all sections and values."""
    return _keys_of(TrainConfig, "")


def _keys_of(section: type[BaseModel], prefix: str) -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        inner = section_class(field.annotation)
        if inner is not None:
            keys += _keys_of(inner, f"{prefix}{name}.")
    return keys


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns full key -> value for nested tables: `{"a": {"b": 1}}` gives `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
