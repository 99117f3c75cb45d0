"""Runs benchmarks: `python -m benchmarks TOPIC`, see README.md."""

import argparse
import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.case import Case, DisagreementError
from benchmarks.machine import describe_machine
from benchmarks.memory import measure_memory
from benchmarks.plot import plot_results
from benchmarks.report import CaseResult, Verdict, as_text, judge, write_results
from benchmarks.timing import time_case
from benchmarks.topics import TOPICS

__all__ = ["main", "run_topic"]

_QUICK_ROUNDS = 1


def main(arguments: Sequence[str] | None = None, topics: Mapping[str, str] = TOPICS) -> int:
    """Runs the topics named on the command line and returns the exit code.

    Args:
        arguments: command line arguments; None uses `sys.argv`.
        topics: name -> `"module:attribute"` of its cases.

    Returns:
        0 if everything ran, even if goals are missed (the machine may be busy); 1 if results disagree.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compares ours with other libraries.")
    parser.add_argument("topics", nargs="+", metavar="TOPIC", help=f"all, or some of {', '.join(topics)}")
    parser.add_argument("--only", metavar="CASE", help="run only the case of that name")
    parser.add_argument("--rounds", type=int, metavar="N", help="samples per contender (default: set by each case)")
    parser.add_argument("--quick", action="store_true", help="small inputs, one round: checks that everything runs")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/benchmarks/TOPIC-TIME")
    options = parser.parse_args(arguments)
    for name in options.topics:
        if name not in {*topics, "all"}:
            parser.error(f"unknown topic {name!r}; known are all, {', '.join(topics)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    chosen = list(topics) if "all" in options.topics else list(dict.fromkeys(options.topics))
    cases = {topic: _load(topics[topic]) for topic in chosen}
    if options.only is not None:
        known = [case.name for topic in chosen for case in cases[topic]]
        if options.only not in known:
            parser.error(f"unknown case {options.only!r}; {', '.join(chosen)} has {', '.join(map(repr, known))}")
        cases = {topic: [c for c in found if c.name == options.only] for topic, found in cases.items()}
    elif options.quick:
        cases = {topic: [c for c in found if c.quick] for topic, found in cases.items()}
    summary: list[Verdict] = []
    for topic, selected in cases.items():
        if not selected:
            continue
        folder = options.out or Path("runs", "benchmarks", f"{topic}-{time.strftime('%Y%m%d-%H%M%S')}")
        folder = folder / topic if options.out and len(cases) > 1 else folder
        try:
            results = run_topic(topic, topics[topic], selected, folder, options.rounds, options.quick)
        except DisagreementError as error:
            print(f"{topic}, {error}", file=sys.stderr)
            return 1
        except ModuleNotFoundError as error:
            parser.error(
                f"{error.name} is not installed; run the benchmarks in their own environment: hatch run bench:all"
            )
        for result in results:
            summary += [replace(v, text=f"{topic}, {result.case.name}: {v.text}") for v in judge(result)]
        print(f"Written to {folder}\n")
    if summary:
        print("Goals" + (" (not meant for these small inputs):" if options.quick else ":"))
    for verdict in summary:
        print(verdict)
    return 0


def run_topic(
    topic: str, reference: str, cases: Sequence[Case], folder: Path, rounds: int | None = None, quick: bool = False
) -> list[CaseResult]:
    """Runs the cases of one topic, prints the report and writes it into `folder`.

    Args:
        topic: its name, for the report.
        reference: `"module:attribute"` of the cases, for the child processes.
        cases: those to run.
        folder: gets `results.txt`, `results.json` and `results.png`.
        rounds: samples per contender; None uses the case's default.
        quick: whether to use small inputs and, unless `rounds` is given, one round.

    Raises:
        DisagreementError: if the answers of a case differ; then nothing is written.
    """
    distributions = {c.distribution for case in cases for c in case.contenders if c.distribution is not None}
    machine = describe_machine(distributions)
    results = []
    for case in cases:
        print(f"{topic}, {case.name}: timing {len(case.contenders)} contenders", file=sys.stderr, flush=True)
        timing = time_case(case, rounds or (_QUICK_ROUNDS if quick else case.rounds), quick)
        memory: Mapping[str, float] = {}
        # each fresh process takes seconds to start, so a quick run measures memory only if a goal needs it
        if case.memory and (case.has_memory_goal or not quick):
            print(f"{topic}, {case.name}: measuring memory in fresh processes", file=sys.stderr, flush=True)
            memory = measure_memory(reference, case, quick)
        results.append(CaseResult(case, timing, memory, case.facts(quick)))
    write_results(folder, topic, machine, results, quick)
    plot_results(folder / "results.png", topic, results, quick)
    print(as_text(topic, machine, results, quick))
    return results


def _load(reference: str) -> Sequence[Case]:
    module, attribute = reference.split(":")
    return getattr(importlib.import_module(module), attribute)


if __name__ == "__main__":
    sys.exit(main())
