"""The options of datasets, predictors, class-weight schemes and samplers, for the reference page of the config.

They come from the signatures and docstrings of what is installed, through the registries. Names that tests or users
registered are left out, so that the page depends on the packages alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from seg_core.metrics.class_weights import describe_schemes
from seg_core.registry import DATASETS, PREDICTORS, Registry
from seg_core.spec import Option, documented_options, leading_parameters, shown_default
from seg_train.config.params import DATASET, PREDICTOR, Call

__all__ = ["options_of_classes", "options_of_datasets", "options_of_predictors", "options_of_sampling"]

_OURS = "seg-"  # packages of this project


def options_of_datasets() -> str:
    """Returns the options of every dataset, those that all official datasets share only once."""
    options = {name: _options(target, DATASET) for name, target in _targets(DATASETS).items()}
    # a base class that is no dataset describes the options of the official ones
    homes = Counter(option.home for own in options.values() for option in own if option.home not in options)
    shared = next((home for home, _ in homes.most_common(1)), "")
    common = _most_common(option for own in options.values() for option in own if option.home == shared)
    parts = ["### Options of datasets\n", "`data.dataset.params` of each dataset. All official datasets have:\n"]
    parts.append(_table(common))
    alone = []
    for name, every in options.items():
        own = [option for option in every if option not in common]
        is_official = len(own) < len(every)
        if own:
            parts += [f"`{name}`{', and those of all official datasets' * is_official}:\n", _table(own)]
        elif is_official:
            alone.append(f"`{name}`")
    parts.append(f"Only those of all official datasets: {', '.join(alone)}.\n")
    return "\n".join(parts)


def _most_common(options: Iterable[Option]) -> list[Option]:
    """Returns one option of each name, with the default that most of them have."""
    by_name: dict[str, list[Option]] = {}
    for option in options:
        by_name.setdefault(option.name, []).append(option)
    return [max(same, key=same.count) for same in by_name.values()]


def options_of_predictors() -> str:
    """Returns the options of every predictor."""
    parts = ["### Options of predictors\n", "`evaluation.params` of each `evaluation.predictor`.\n"]
    for name, target in _targets(PREDICTORS).items():
        options = _options(target, PREDICTOR)
        summary = (target.__doc__ or "").strip().split("\n\n")[0]
        parts.append(f"`{name}`: {' '.join(summary.split())}\n")
        parts.append(_table(options) if options else "It has no options.\n")
    return "\n".join(parts)


def options_of_classes() -> str:
    """Returns the class-weight schemes with their formulas and options."""
    parts = [
        "### Schemes of class weights\n",
        "Values of `criterion.class_weights`; p is the fraction of a class among the pixels that have one. The options "
        "are those of `seg_core.class_weights`; in a config they have their defaults.\n",
    ]
    for name, (formula, options) in describe_schemes().items():
        parts.append(f"- `{name}`: {formula}")
        parts.extend(f"  - `{o.name}` (default `{shown_default(o)}`): {o.meaning}" for o in options)
    return "\n".join(parts) + "\n"


def options_of_sampling() -> str:
    """Returns how the samplers draw."""
    return (
        "Without `rare_classes` each sample is drawn once per epoch, in random order. With it, for each sample a class "
        "c is drawn with probability P(c) = exp((1 - f_c) / T) / sum over c' of exp((1 - f_c') / T), where f_c is the "
        "fraction of pixels of the class and T the `temperature`; then an image that contains it, then random crops "
        "until one contains `min_pixels` of it, at most `attempts` (DAFormer, arXiv:2111.14887). The number of samples "
        "of an epoch stays.\n"
    )


def _targets(registry: Registry) -> dict[str, Callable[..., Any]]:
    return {name: registry.get(name) for name in registry.names() if registry.origin(name).startswith(_OURS)}


def _options(target: Callable[..., Any], call: Call) -> list[Option]:
    """Returns the options of a target that a config may set."""
    return documented_options(target, {*call.owned, *leading_parameters(target, len(call.positional))})


def _table(options: Sequence[Option]) -> str:
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for option in options:
        default = "required" if option.is_required else f"`{shown_default(option)}`"
        meaning = option.meaning.replace("|", "\\|")
        rows.append(f"| `{option.name}` | {default} | {meaning} |")
    return "\n".join(rows) + "\n"
