"""What a config says of a network that only its builder or its dataset shows to be wrong: weights and channels."""

from seg_core.labels.metadata import DatasetMetadata
from seg_core.model_files.build_spec import OBJECT
from seg_core.model_files.own_builders import file_to_load, takes_weights
from seg_core.registry import MODELS
from seg_core.spec import takes
from seg_train.config.schema import ModelSection

__all__ = ["channels_problem", "weights_problems"]


def weights_problems(section: ModelSection) -> list[str]:
    """Returns the keys of weights that a builder of the user's own does not take, one sentence each.

    Args:
        section: with the name of a known model.
    """
    given = {"weights": section.weights, "weights_backbone": section.weights_backbone}
    if file_to_load(section.name, section.weights) is not None:
        del given["weights"]
    return [
        f'model.{key} = "{value}": {section.name} has no parameter {key!r} of its own, so that its **kwargs may ignore '
        f"the value; add {key}=None to it and load what it names"
        + (", or give the path of a file, which the trainer loads" if key == "weights" else ", or remove the key")
        for key, value in given.items()
        if value is not None and not takes_weights(section.name, key)
    ]


def channels_problem(section: ModelSection, metadata: DatasetMetadata) -> str | None:
    """Returns why a network of this config does not get the channels of the dataset, which it follows; or None.

    Args:
        section: with the name of a known model.
        metadata: of the dataset, with the channels of its images.
    """
    channels, given = metadata.channels, section.params.get("in_channels")
    if given not in (None, channels.count):
        return (
            f"model.params.in_channels = {given!r}, but the images of {metadata.name} have {channels}; remove the key, "
            "the network follows the dataset, or give the metadata of the dataset the channels that its images have"
        )
    if channels.count == 3 or section.name == OBJECT or takes(MODELS.get(section.name), "in_channels"):
        return None
    return (
        f"model.name = {section.name!r}: it has no parameter in_channels, and the images of {metadata.name} have "
        f"{channels}; add in_channels=3 to its parameters, the number of channels that it builds the network for"
    )
