"""Division of the images among processes: by `--shard I/N`, or by the environment of a launcher such as torchrun."""

import os
import re
import sys
from pathlib import Path

from seg_core.errors import UsageError
from seg_models.commands.predict.jobs import Job
from seg_models.commands.predict.progress import count_images

__all__ = ["device_of_process", "file_of_shard", "parse_shard", "shard_of"]

_SHARD = re.compile(r"(\d+)/(\d+)")


def parse_shard(text: str | None) -> tuple[int, int]:
    """Returns the index of this process's shard, counted from 0, and the number of shards.

    Args:
        text: value of `--shard`; None uses RANK and WORLD_SIZE of the environment, or a single shard.

    Raises:
        UsageError: if it is not a shard.
    """
    if text is None:
        try:
            rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        except ValueError:
            rank, count = -1, 0
        if not 0 <= rank < count:
            raise UsageError(
                f"RANK={os.environ.get('RANK')} and WORLD_SIZE={os.environ.get('WORLD_SIZE')} of the environment are "
                "not a shard; set both, unset them, or pass --shard 1/1"
            )
        return rank, count
    found = _SHARD.fullmatch(text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {text} must be I/N with I from 1 to N, such as 2/4")
    return int(found[1]) - 1, int(found[2])


def shard_of(jobs: list[Job], shard: tuple[int, int]) -> list[Job]:
    """Returns the jobs of one shard: every N-th one."""
    index, count = shard
    if count == 1:
        return jobs
    own = jobs[index::count]
    print(f"seg: shard {index + 1} of {count}: {len(own)} of {count_images(len(jobs))}", file=sys.stderr)
    return own


def file_of_shard(file: str, shard: tuple[int, int]) -> Path:
    """Returns the file that this process writes instead of `file`: `areas-2of4.csv` for the second of four shards."""
    index, count = shard
    path = Path(file)
    return path if count == 1 else path.with_name(f"{path.stem}-{index + 1}of{count}{path.suffix}")


def device_of_process(device: str) -> str:
    """Returns the device of this process: with `"auto"` and a launcher, one GPU per process of a machine."""
    import torch

    rank = os.environ.get("LOCAL_RANK", "")
    if device == "auto" and rank.isdigit() and torch.cuda.device_count() > 1:
        return f"cuda:{int(rank) % torch.cuda.device_count()}"
    return device
