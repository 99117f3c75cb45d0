"""Checks how a run was started: which launcher, whether complete, and with as many processes as asked for."""

from collections.abc import Mapping

from seg_core.errors import UsageError

__all__ = ["check_environment", "check_joined", "launch_warning", "launched_processes"]

# what torchrun tells each process, and torch needs to connect them
_REQUIRED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# what the launchers of MPI tell; accelerate understands these, too
_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_START = "torchrun --nproc_per_node N -m seg_core.command train ... (see seg train --help)"


def launched_processes(environ: Mapping[str, str]) -> int:
    """Returns the number of processes that the launcher started for this run, 1 without a launcher.

    Args:
        environ: environment variables, checked by `check_environment`.
    """
    return int(environ.get("WORLD_SIZE", "1"))


def check_environment(environ: Mapping[str, str]) -> None:
    """Checks the variables that a launcher sets, before anything waits for processes that never come.

    Args:
        environ: environment variables.

    Raises:
        UsageError: if some are missing or wrong.
    """
    numbers = {}
    for name in _NUMBERS:
        text = environ.get(name)
        if text is None:
            continue
        try:
            numbers[name] = int(text)
        except ValueError:
            raise UsageError(
                f"the environment variable {name} = {text!r} must be an integer: launchers of several processes set "
                f"it; unset it for one process, or start with {_START}"
            ) from None
    if any(int(environ.get(name) or 1) > 1 for name in _MPI_SIZES if (environ.get(name) or "1").isdigit()):
        return  # accelerate takes what is missing from the variables of MPI
    size = numbers.get("WORLD_SIZE", 1)
    if size <= 1 and numbers.get("LOCAL_RANK", -1) < 0:
        return  # one process, whatever else is set
    missing = [name for name in _REQUIRED if not environ.get(name)]
    if missing:
        found = ", ".join(f"{name} = {environ[name]}" for name in (*_NUMBERS, *_REQUIRED[2:]) if name in environ)
        raise UsageError(
            f"the environment variables of a launcher are incomplete: {found}, but no {', '.join(missing)}; unset "
            f"{'it' if ',' not in found else 'them'} to train with one process, or start with {_START}"
        )
    if not 0 <= numbers["RANK"] < size:
        raise UsageError(
            f"the environment variable RANK = {numbers['RANK']} must be 0 to {size - 1}, as WORLD_SIZE is {size}: "
            "each process of a run has its own RANK, and all have the same WORLD_SIZE"
        )


def check_joined(environ: Mapping[str, str], num_processes: int, device_type: str) -> None:
    """Checks that the processes of a launcher train one run together, and not a run each in the same folder.

    Args:
        environ: environment variables, checked by `check_environment`.
        num_processes: processes of the run.
        device_type: of the run, as in `"cuda"`.

    Raises:
        UsageError: if the launcher started more.
    """
    size = launched_processes(environ)
    if num_processes > 1 or size <= 1:
        return
    if "LOCAL_RANK" not in environ:
        advice = f"LOCAL_RANK, the number of the process on its machine, is not set; start with {_START}"
    else:
        advice = f"processes on {device_type} cannot share a run; start one process, or set -s trainer.device=cpu"
    raise UsageError(
        f"a launcher started this process as number {environ.get('RANK', '0')} of {size}, but it would train a run of "
        f"its own: {advice}"
    )


def launch_warning(environ: Mapping[str, str], num_processes: int) -> str | None:
    """Returns a warning if fewer processes train together than a launcher was asked for, else None.

    Args:
        environ: environment variables.
        num_processes: processes of the run.
    """
    if num_processes > 1:
        return None
    # Only if accelerate launch starts a single process does it set ACCELERATE_USE_CPU, and then MASTER_ADDR only if it
    # was asked for more than one.
    if "ACCELERATE_USE_CPU" in environ and environ.get("MASTER_ADDR") and "RANK" not in environ:
        return (
            "accelerate launch was asked for several processes but started one, which trains alone: it does so with "
            "--cpu, and where it finds fewer than two GPUs; start with accelerate launch --multi_gpu, which also "
            f"starts processes without a GPU (-s trainer.device=cpu), or {_START}"
        )
    for launcher, number, sizes in (
        ("srun", "SLURM_PROCID", ("SLURM_STEP_NUM_TASKS",)),
        ("an MPI launcher", "OMPI_COMM_WORLD_RANK", _MPI_SIZES),
    ):
        size = next((environ[name] for name in sizes if environ.get(name, "").isdigit()), "1")
        if int(size) > 1:
            return (
                f"{launcher} started this process {f'as number {environ[number]} ' if number in environ else ''}of "
                f"{size}, and each trains a run of its own; to train one run with all of them, let {launcher} start "
                f"one process per machine: torchrun --nnodes ... (see seg train --help). Separate runs need separate "
                "folders: -s paths.run=NAME"
            )
    return None
