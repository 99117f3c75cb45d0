"""What is compared: contenders that do the same work, and the goals that ours should reach."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Case", "Contender", "DisagreementError", "Goal", "Kind", "find_case"]

Kind = Literal["ours", "peer", "bound"]


class DisagreementError(Exception):
    """Two contenders gave different results, so their times must not be compared."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a case.

    Args:
        name: short; shown in the tables.
        prepare: takes the inputs of the case, imports what it needs and returns the timed work, a callable without
            arguments.
        kind: `"ours"`, `"peer"` (another library), or `"bound"`: work that no implementation can avoid, such as reading
            the input once. A bound shows how much could still be gained; its answer and its memory are not looked at.
        distribution: PyPI name of the package, whose version is reported.
        answer: takes the inputs and returns what the check compares; None compares the result of the work.
        facts: takes the inputs and returns figures that are not timed, by their column titles.
    """

    name: str
    prepare: Callable[[Any], Callable[[], Any]]
    kind: Kind = "peer"
    distribution: str | None = None
    answer: Callable[[Any], Any] | None = None
    facts: Callable[[Any], Mapping[str, float]] | None = None


@dataclass(frozen=True)
class Goal:
    """A target for one of ours.

    Args:
        ours: name of the contender.
        peer: name of the contender that `speed` and `memory` compare with.
        speed: minimum ratio of the peer's time to ours.
        memory: maximum ratio of our extra memory per call to the peer's.
        memory_mib: maximum extra memory per call of ours, in MiB.
    """

    ours: str
    peer: str | None = None
    speed: float | None = None
    memory: float | None = None
    memory_mib: float | None = None

    def __post_init__(self) -> None:
        if (self.peer is None) != (self.speed is None and self.memory is None):
            raise ValueError(
                "peer and speed or memory belong together, "
                f"got peer={self.peer!r} with speed={self.speed} and memory={self.memory}"
            )


@dataclass(frozen=True)
class Case:
    """Some work, done by every contender in turn.

    Args:
        name: short, unique within its topic.
        work: one sentence for the results.
        make_inputs: takes `quick` (True for small inputs) and returns the input of every contender.
        contenders: all of them; ratios in the figure refer to the first of ours.
        check: takes the answers of all contenders except bounds, by name; returns a sentence on how closely they agree,
            or raises `DisagreementError`.
        goals: what ours should reach.
        threads: number of threads of torch and OpenCV; None does not change it.
        images_per_call: images per call of the work; None shows no images per second.
        rounds: how often each contender is timed; `--rounds` overrides it.
        memory: whether extra memory is measured.
        memory_repeats: how many fresh processes measure the extra memory of each contender.
        keep_freed: whether the process keeps freed memory for the next call while it is timed (glibc only).
        quick: whether quick runs include it; `--only` always does.
    """

    name: str
    work: str
    make_inputs: Callable[[bool], Any]
    contenders: Sequence[Contender]
    check: Callable[[Mapping[str, Any]], str]
    goals: Sequence[Goal] = ()
    threads: int | None = None
    images_per_call: int | None = None
    rounds: int = 15
    memory: bool = True
    memory_repeats: int = 3
    keep_freed: bool = False
    quick: bool = True

    def __post_init__(self) -> None:
        names = [c.name for c in self.contenders]
        if len(set(names)) < len(names):
            raise ValueError(f"contenders of {self.name!r} must have different names, got {names}")
        unknown = {n for g in self.goals for n in (g.ours, g.peer) if n is not None} - set(names)
        if unknown:
            raise ValueError(f"goals of {self.name!r} name {sorted(unknown)}; its contenders are {names}")

    @property
    def has_memory_goal(self) -> bool:
        """Whether a goal needs the extra memory."""
        return bool(self.memory_goal_names)

    @property
    def memory_goal_names(self) -> set[str]:
        """Names of the contenders whose extra memory a goal needs."""
        names = {g.ours for g in self.goals if g.memory is not None or g.memory_mib is not None}
        return names | {g.peer for g in self.goals if g.peer is not None and g.memory is not None}

    def contender(self, name: str) -> Contender:
        """Returns the contender of that name."""
        return next(c for c in self.contenders if c.name == name)

    def facts(self, quick: bool = False) -> dict[str, Mapping[str, float]]:
        """Returns the facts of the contenders that have any, by name; `quick` uses small inputs."""
        if all(c.facts is None for c in self.contenders):
            return {}
        inputs = self.make_inputs(quick)
        return {c.name: c.facts(inputs) for c in self.contenders if c.facts is not None}

    def of_kind(self, *kinds: Kind) -> list[Contender]:
        """Returns the contenders of these kinds, in order."""
        return [c for c in self.contenders if c.kind in kinds]


def find_case(reference: str, name: str) -> Case:
    """Returns the case called `name` among the cases at `reference`, `"module:attribute"`."""
    module, attribute = reference.split(":")
    cases: Sequence[Case] = getattr(importlib.import_module(module), attribute)
    return next(case for case in cases if case.name == name)
