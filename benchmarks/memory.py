"""Extra memory of one call: how far the process grows while the work runs, measured in a fresh process each time.

Run as a module, this file is the child process that measures one contender.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.case import Case, find_case
from benchmarks.timing import limit_threads, shuffled
from seg_models.speed.memory import can_measure_memory, reset_peak, status_mib

__all__ = ["measure_memory"]

_ROOT = Path(__file__).resolve().parent.parent
# freed buffers of 64 KiB and more return to the system at once, so that the measured call cannot silently reuse memory
# of the warm-up
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def measure_memory(reference: str, case: Case, quick: bool = False) -> Mapping[str, float]:
    """Returns the extra MiB of one call per contender, without bounds; empty if it cannot be measured.

    Args:
        reference: `"module:attribute"` of the cases, for the child processes.
        case: the case to measure.
        quick: whether to use small inputs, one process per contender, and only the contenders that memory goals name.
    """
    if not case.memory or not can_measure_memory():
        return {}
    names = [c.name for c in case.of_kind("ours", "peer")]
    if quick and case.has_memory_goal:
        names = [name for name in names if name in case.memory_goal_names]
    samples: dict[str, list[float]] = {name: [] for name in names}
    for index in range(1 if quick else case.memory_repeats):
        for name in shuffled(names, index):
            command = [sys.executable, "-m", "benchmarks.memory", reference, case.name, name, *["--quick"] * quick]
            environment = {**os.environ, **_ENVIRONMENT}
            output = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT, env=environment
            ).stdout
            samples[name].append(json.loads(output.splitlines()[-1]))  # a peer may print something before it
    return {name: statistics.median(values) for name, values in samples.items()}


def _measure_one(case: Case, name: str, quick: bool) -> float:
    """Returns the extra MiB of one call in this process, after a first one."""
    with limit_threads(case.threads):
        work = case.contender(name).prepare(case.make_inputs(quick))
        work()
        gc.collect()
        reset_peak()
        before = status_mib("VmRSS")
        result = work()  # kept, so that it counts
        extra = status_mib("VmHWM") - before
        del result
    return max(0.0, extra)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reference")
    parser.add_argument("case")
    parser.add_argument("contender")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    case = find_case(arguments.reference, arguments.case)
    print(json.dumps(_measure_one(case, arguments.contender, arguments.quick)))


if __name__ == "__main__":
    _main()
