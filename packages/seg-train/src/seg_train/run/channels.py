"""Compares the channels that a network was trained on with those of the dataset that it is evaluated on."""

from torch import nn

from seg_core.checks import is_integer
from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import ImageChannels
from seg_core.labels.comparison import difference_of_channels
from seg_core.model_files.build_spec import BuildSpec
from seg_core.model_files.fit import unwrap
from seg_core.model_files.reading import ModelInfo
from seg_core.transforms.preprocessing import Preprocessing

__all__ = ["default_preprocessing", "other_channels"]


def other_channels(network: nn.Module, dataset: ImageChannels) -> str | None:
    """Returns how the channels of a network differ from those of a dataset, or None if they do not, as far as known.

    They come from its weights or its model file (`model_info`), else their number from its builder (`build_spec`).

    Args:
        network: the network.
        dataset: channels of the images.
    """
    network = unwrap(network)
    info, spec = getattr(network, "model_info", None), getattr(network, "build_spec", None)
    if isinstance(info, ModelInfo):
        return difference_of_channels(info.metadata.channels, dataset)
    count = spec.arguments.get("in_channels") if isinstance(spec, BuildSpec) else None
    if not is_integer(count) or count == dataset.count:
        return None
    return f"the network takes {count} channel{'s' if count > 1 else ''}, but the dataset has {dataset}"


def default_preprocessing(channels: ImageChannels) -> Preprocessing:
    """Returns the preprocessing for a network without one: mean and std of the channels, or ImageNet's.

    Args:
        channels: channels of the dataset.

    Raises:
        InvalidArgumentError: if mean and std are not given, and the channels are not three of 8 bits.
    """
    are_given = channels.mean is not None and channels.std is not None
    if not are_given and not (channels.count == 3 and channels.is_bytes):
        raise InvalidArgumentError(
            f"neither the network nor the dataset says by which mean and std its {channels} are normalized; give them "
            "in channels.mean and channels.std of the dataset's metadata"
        )
    return Preprocessing().for_channels(channels)
