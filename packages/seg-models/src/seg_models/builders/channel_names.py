"""Weights of a model file whose channels are described, in a network for other described channels."""

import logging
from dataclasses import replace

from seg_core.labels.channels import ImageChannels
from seg_models.pretrained.checkpoint import Checkpoint
from seg_models.pretrained.input_channels import first_kernels, input_channels_of, kernel_sources, place_by_name
from seg_models.pretrained.recognition import Plan

__all__ = ["fit_by_name"]

logger = logging.getLogger(__name__)


def fit_by_name(checkpoint: Checkpoint, channels: ImageChannels, plan: Plan) -> Checkpoint | None:
    """Returns a checkpoint with its kernels where the network's channels have the names of the checkpoint's.

    The mean and standard deviation of its preprocessing follow, if all wanted channels are among its own.

    Args:
        checkpoint: the checkpoint, not inflated.
        channels: the channels of the network.
        plan: how the network is built.

    Returns:
        The checkpoint for these channels; None if it is taken by position: its channels are not described, or are the
        three colors of 8 bits, or the same; or, with a warning, if they cannot be placed.
    """
    own = None if checkpoint.info is None else checkpoint.info.metadata.channels
    if own is None or checkpoint.inflated or own.names == channels.names:
        return None
    if own.is_rgb8 and ImageChannels(own.names).rgb == (0, 1, 2):
        return None
    if input_channels_of(checkpoint.tensors, plan.build_with) not in (None, own.count):
        return None  # the description is not that of the weights
    sources = kernel_sources(own, channels)
    if sources == list(range(own.count)):
        return None
    kernels = first_kernels(plan.build_with, own.count, max(own.count, channels.count) + 1)
    if sources is None or not kernels:
        reason = (
            "not all of them have the same names"
            if sources is None
            else "more than the first convolution of the network depends on the channels"
        )
        logger.warning(
            "%s is for %s, and the network takes %s: the weights are kept in their order, since %s; describe the "
            "channels by the names and in the order of the weights if they are the same",
            checkpoint.source,
            own,
            channels,
            reason,
        )
        return None
    assert checkpoint.info is not None
    preprocessing, metadata = checkpoint.info.preprocessing, checkpoint.info.metadata
    info = checkpoint.info
    if channels.count <= own.count and len(preprocessing.mean) == own.count:
        mean = channels.mean or tuple(preprocessing.mean[index] for index in sources)
        std = channels.std or tuple(preprocessing.std[index] for index in sources)
        moved = replace(preprocessing, mean=mean, std=std, channels=channels)
        info = replace(info, preprocessing=moved, metadata=replace(metadata, channels=channels))
    return replace(checkpoint, tensors=place_by_name(checkpoint.tensors, kernels, sources, own.count), info=info)
