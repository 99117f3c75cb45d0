"""The results of a run: tables, the same figures as JSON, and whether the goals are met."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Goal
from benchmarks.timing import Timing

__all__ = ["CaseResult", "Verdict", "as_data", "as_number", "as_text", "judge", "write_results"]

_WORDS = {True: "met", False: "NOT met", None: "not measured"}


@dataclass(frozen=True)
class CaseResult:
    """The figures of one case.

    Args:
        case: what was compared.
        timing: the times, and how closely the answers agree.
        memory: name -> extra MiB of one call; empty if not measured.
        facts: name -> figures that are not timed, by their column titles.
    """

    case: Case
    timing: Timing
    memory: Mapping[str, float]
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def memory_ratio(self, ours: str, other: str) -> float | None:
        """Returns our extra memory over that of `other`; None if it was not measured or `other` has none."""
        extra, others = self.memory.get(ours), self.memory.get(other)
        return extra / others if extra is not None and others else None


@dataclass(frozen=True)
class Verdict:
    """One goal and its measurement; `met` is None if nothing was measured."""

    text: str
    met: bool | None

    def __str__(self) -> str:
        return f"{_WORDS[self.met]:<12}  {self.text}"


def judge(result: CaseResult) -> list[Verdict]:
    """Returns one verdict for each number in the goals of the case."""
    return [verdict for goal in result.case.goals for verdict in _judge_goal(result, goal)]


def _judge_goal(result: CaseResult, goal: Goal) -> list[Verdict]:
    verdicts = []
    if goal.peer is not None and goal.speed is not None:
        ratio = result.timing.ratio(goal.ours, goal.peer)
        text = f"{goal.ours}: {ratio:.2f}x as fast as {goal.peer}, goal at least {goal.speed:.2f}x"
        verdicts.append(Verdict(text, ratio >= goal.speed))
    if goal.peer is not None and goal.memory is not None:
        share = result.memory_ratio(goal.ours, goal.peer)
        seen = "extra memory" if share is None else f"{share:.2f}x the extra memory"
        text = f"{goal.ours}: {seen} of {goal.peer}, goal at most {goal.memory:.2f}x"
        verdicts.append(Verdict(text, None if share is None else share <= goal.memory))
    if goal.memory_mib is not None:
        extra = result.memory.get(goal.ours)
        seen = "extra memory" if extra is None else f"{extra:.1f} MiB extra"
        text = f"{goal.ours}: {seen}, goal at most {goal.memory_mib:g} MiB"
        verdicts.append(Verdict(text, None if extra is None else extra <= goal.memory_mib))
    return verdicts


def as_number(value: float) -> str:
    """Formats a positive number with about three digits and no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def as_text(topic: str, machine: Mapping[str, str], results: Sequence[CaseResult], quick: bool) -> str:
    """Returns the whole report as plain text."""
    width = max(map(len, machine))
    lines = [f"Benchmark: {topic}", ""]
    lines += [f"{name:<{width}}  {fact}" for name, fact in machine.items()]
    if quick:
        lines += [
            "",
            "A quick run on small inputs, to check that everything works; the goals are meant for full inputs.",
        ]
    for result in results:
        rounds = len(next(iter(result.timing.seconds.values())))
        threads = "" if result.case.threads is None else f", torch and OpenCV with {result.case.threads} thread"
        lines += ["", f"== {result.case.name}: {result.case.work}", ""]
        lines += _table(result)
        kept = ", freed memory kept for the next call" if result.case.keep_freed else ""
        lines += ["", f"rounds     {rounds}{threads}{kept}"]
        lines += textwrap.wrap(f"agreement  {result.timing.agreement}", 110, subsequent_indent=" " * 11)
        lines += [f"goal       {verdict}" for verdict in judge(result)]
    pairs = _overview(results)
    lines += ["", "== overview: ours / peer", "", *pairs] if pairs else []
    return "\n".join(lines) + "\n"


def as_data(topic: str, machine: Mapping[str, str], results: Sequence[CaseResult], quick: bool) -> dict[str, Any]:
    """Returns the whole report as plain data, with every sample."""
    return {"topic": topic, "quick": quick, "machine": dict(machine), "cases": [_case_data(r) for r in results]}


def write_results(
    folder: Path, topic: str, machine: Mapping[str, str], results: Sequence[CaseResult], quick: bool
) -> None:
    """Writes `results.txt` and `results.json` into `folder`, creating it if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.txt").write_text(as_text(topic, machine, results, quick), encoding="utf-8")
    data = json.dumps(as_data(topic, machine, results, quick), indent=2)
    (folder / "results.json").write_text(data + "\n", encoding="utf-8")


def _table(result: CaseResult) -> list[str]:
    """Returns the lines of the aligned table: a header, then one line per contender."""
    case, timing = result.case, result.timing
    ours = [c.name for c in case.of_kind("ours")]
    facts = _fact_names([result])
    head = ["", "kind", *facts, "median ms", "quartiles ms"]
    head += ["images/s"] if case.images_per_call else []
    head += ["extra MiB"] if case.memory else []
    head += [f"time / {name}" for name in ours]
    rows = [head]
    for contender in case.contenders:
        name, median = contender.name, timing.median(contender.name)
        quartiles = " - ".join(as_number(1000 * seconds) for seconds in timing.quartiles(name))
        row = [name, contender.kind, *(_fact(result, name, fact) for fact in facts)]
        row += [as_number(1000 * median), quartiles]
        row += [as_number(case.images_per_call / median)] if case.images_per_call else []
        row += [_memory(result, contender.kind, name)] if case.memory else []
        row += ["" if name == one else f"{as_number(timing.ratio(one, name))}x" for one in ours]
        rows.append(row)
    return _aligned(rows)


def _overview(results: Sequence[CaseResult]) -> list[str]:
    """Returns the lines of a table with one row per pair of ours and a peer, for cases that have facts."""
    results = [result for result in results if result.facts]
    if not results:
        return []
    facts = _fact_names(results)
    rows = [["", "peer", *facts, "ms", "time", "extra MiB", "memory", "goals"]]
    for result in results:
        case, timing = result.case, result.timing
        pairs = [(one.name, peer.name) for one in case.of_kind("ours") for peer in case.of_kind("peer")]
        for one, peer in pairs:
            share = result.memory_ratio(one, peer)
            goals = [goal for goal in case.goals if (goal.ours, goal.peer) == (one, peer)]
            verdicts = [verdict for goal in goals for verdict in _judge_goal(result, goal)]
            row = [case.name, peer, *(f"{_fact(result, one, fact)} / {_fact(result, peer, fact)}" for fact in facts)]
            row += [" / ".join(as_number(1000 * timing.median(name)) for name in (one, peer))]
            row += [f"{timing.ratio(peer, one):.2f}x"]
            row += [" / ".join(_memory(result, "ours", name) for name in (one, peer)) if result.memory else "-"]
            row += ["-" if share is None else f"{share:.2f}x"]
            rows.append([*row, ", ".join(dict.fromkeys(_WORDS[verdict.met] for verdict in verdicts))])
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = 2  # the first columns hold text, the others numbers
    return [
        "  ".join(
            cell.ljust(width) if index < texts else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _memory(result: CaseResult, kind: str, name: str) -> str:
    if kind == "bound":
        return ""
    return f"{result.memory[name]:.1f}" if name in result.memory else "not measured"


def _fact_names(results: Sequence[CaseResult]) -> list[str]:
    return list(dict.fromkeys(name for result in results for facts in result.facts.values() for name in facts))


def _fact(result: CaseResult, contender: str, name: str) -> str:
    value = result.facts.get(contender, {}).get(name)
    return "" if value is None else as_number(value)


def _case_data(result: CaseResult) -> dict[str, Any]:
    case, timing = result.case, result.timing
    contenders = [
        {
            "name": contender.name,
            "kind": contender.kind,
            "median_ms": 1000 * timing.median(contender.name),
            "quartiles_ms": [1000 * seconds for seconds in timing.quartiles(contender.name)],
            "samples_ms": [1000 * seconds for seconds in timing.seconds[contender.name]],
            "calls_per_sample": timing.repeats[contender.name],
            "images_per_second": case.images_per_call / timing.median(contender.name) if case.images_per_call else None,
            "extra_mib": result.memory.get(contender.name),
            "facts": dict(result.facts.get(contender.name, {})),
        }
        for contender in case.contenders
    ]
    ratios = [
        {"ours": one.name, "other": other.name, "ratio": timing.ratio(one.name, other.name)}
        for one in case.of_kind("ours")
        for other in case.contenders
        if other is not one
    ]
    return {
        "name": case.name,
        "work": case.work,
        "agreement": timing.agreement,
        "contenders": contenders,
        "ratios": ratios,
        "goals": [{"text": verdict.text, "met": verdict.met} for verdict in judge(result)],
    }
