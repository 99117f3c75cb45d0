"""Weights of networks whose builder is a user's own, as a config names them."""

from seg_core.model_files.own_builders import file_to_load, takes_weights
from seg_train.config.schema import ModelSection

__all__ = ["weights_problems"]


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
