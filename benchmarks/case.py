"""What is compared: contenders that do one piece of work, and the goals that ours should reach."""

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
        name: as the tables show it, short.
        prepare: takes the inputs of the case, imports what it needs and returns the timed work, a callable without
            arguments.
        kind: `"ours"`, `"peer"`, or `"bound"`: work that no implementation can avoid, such as reading the input once;
            it shows how much more there is to gain, is not checked, and its memory is not measured.
        distribution: PyPI name of the package at work, whose version the results name.
        answer: takes the inputs and returns what the check compares, where that is not the result of the work.
        facts: takes the inputs and returns figures that need no clock, by the words that the tables show.
    """

    name: str
    prepare: Callable[[Any], Callable[[], Any]]
    kind: Kind = "peer"
    distribution: str | None = None
    answer: Callable[[Any], Any] | None = None
    facts: Callable[[Any], Mapping[str, float]] | None = None


@dataclass(frozen=True)
class Goal:
    """What one of ours should reach.

    Args:
        ours: name of the contender.
        peer: name of the contender that `speed` and `memory` compare with.
        speed: least ratio of the peer's time to ours.
        memory: greatest ratio of our extra memory of one call to the peer's.
        memory_mib: most extra memory of one call of ours, in MiB.
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
    """One piece of work, done by every contender in turn.

    Args:
        name: short, unique within its topic.
        work: one sentence for the results.
        make_inputs: takes `quick` (True asks for small inputs) and returns what every contender gets.
        contenders: all of them; the first of ours leads the tables.
        check: takes the answers of all contenders but the bounds, by name; returns a sentence that says how far they
            agree, or raises `DisagreementError`.
        goals: what ours should reach.
        threads: of torch and OpenCV; None leaves them as they are.
        images_per_call: images in one call of the work; None shows no images per second.
        rounds: how often each contender is timed, unless the command says otherwise.
        memory: whether extra memory is measured.
        memory_repeats: how many fresh processes measure the extra memory of each contender.
        keep_freed: whether the process keeps freed memory for the next call while it is timed, where its C library can.
        quick: whether a quick run takes it too; one that the command names it always takes.
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
        return any(goal.memory is not None or goal.memory_mib is not None for goal in self.goals)

    def contender(self, name: str) -> Contender:
        """Returns the contender of that name."""
        return next(c for c in self.contenders if c.name == name)

    def facts(self, quick: bool = False) -> dict[str, Mapping[str, float]]:
        """Returns the facts of the contenders that have some, by name; `quick` asks for those of small inputs."""
        if all(c.facts is None for c in self.contenders):
            return {}
        inputs = self.make_inputs(quick)
        return {c.name: c.facts(inputs) for c in self.contenders if c.facts is not None}

    def of_kind(self, *kinds: Kind) -> list[Contender]:
        """Returns the contenders of these kinds, in their order."""
        return [c for c in self.contenders if c.kind in kinds]


def find_case(reference: str, name: str) -> Case:
    """Returns the case called `name` among those that `reference`, `"module:attribute"`, holds."""
    module, attribute = reference.split(":")
    cases: Sequence[Case] = getattr(importlib.import_module(module), attribute)
    return next(case for case in cases if case.name == name)
