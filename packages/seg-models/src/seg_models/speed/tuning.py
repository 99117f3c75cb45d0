"""Tries the ways of computing a network's logits for images of one shape, and keeps the fastest that is allowed."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from seg_core.metrics.argmax import Thresholds
from seg_models.exporting.quiet import quiet
from seg_models.speed.measuring import compare, race
from seg_models.speed.remembered import describe_machine, key_of, recall, remember
from seg_models.speed.report import Attempt, OptimizationReport
from seg_models.speed.ways import EAGER, LogitsOnly, Run, Way, find_ways

__all__ = ["Settings", "Tuned", "tune"]

logger = logging.getLogger(__name__)

_SHARE = 0.1  # of the time limit: the measurements; the rest is for building
_TIE = 0.98  # a later way must take at most this fraction of the time of an earlier one


@dataclass(frozen=True)
class Settings:
    """What is allowed; see `optimize`."""

    min_agreement: float
    max_error: float | None
    precisions: tuple[str, ...]
    methods: tuple[str, ...]
    compile: bool | None
    thresholds: Thresholds | None
    time_limit: float
    remember: bool


@dataclass(frozen=True)
class Tuned:
    """What was found for one shape.

    Attributes:
        run: computes the logits of images of this shape.
        any_size: computes those of any size: the fastest such way that is allowed.
        report: what was tried.
    """

    run: Run
    any_size: Run
    report: OptimizationReport


def tune(
    module: LogitsOnly, full_size: Callable[[Tensor, Tensor], Tensor], images: Sequence[Tensor], settings: Settings
) -> Tuned:
    """Returns the fastest allowed way for images of one shape.

    Args:
        module: the network in eval mode.
        full_size: resizes logits to the size of images.
        images: one or several of the same shape, on the device of the network and of its type.
        settings: what is allowed.
    """
    with torch.no_grad():
        return _Tuning(module, full_size, images, settings).run()


class _Tuning:
    def __init__(
        self,
        module: LogitsOnly,
        full_size: Callable[[Tensor, Tensor], Tensor],
        images: Sequence[Tensor],
        settings: Settings,
    ) -> None:
        self._module, self._full_size, self._images, self._settings = module, full_size, images, settings
        self._device, self._dtype = images[0].device, images[0].dtype
        self._machine = describe_machine(self._device)
        self._shape = tuple(images[0].shape)
        self._expected = [module(each) for each in images]
        self._programs: dict[str, bytes] = {}
        self._start = time.monotonic()
        self._allowed: dict[str, Run] = {EAGER: module}
        self._attempts: dict[str, Attempt] = {EAGER: Attempt(EAGER, agreement=1.0, max_error=0.0)}

    def run(self) -> Tuned:
        settings = self._settings
        ways = find_ways(self._device, self._dtype, settings.precisions, settings.methods)
        options = {name: value for name, value in asdict(settings).items() if name not in ("remember", "time_limit")}
        key = key_of(self._machine, self._module.network, self._shape, options)
        known = recall(key) if settings.remember else None
        if known is not None and (found := self._as_remembered(ways, known)) is not None:
            return found
        quick = [way for way in ways if not way.is_slow or settings.compile is True]
        for way in quick:
            self._try(way)
        if settings.compile is None and len(self._allowed) <= 1 + sum(way.any_size for way in ways):
            # nothing but another memory layout worked: a compiler is the only way left
            quick = list(ways)
            for way in ways:
                if way.is_slow:
                    self._try(way)
        for way in ways:
            if way not in quick and way.name not in self._attempts:
                self._attempts[way.name] = Attempt(way.name, note=way.why_not or "left out: compile=True tries it")
        seconds = self._measure()
        chosen = EAGER
        for name, time_taken in seconds.items():
            if time_taken < _TIE * seconds[chosen]:
                chosen = name
        if settings.remember:
            kept = {name: self._attempts[name].seconds for name in (EAGER, chosen)}
            remember(key, {"way": chosen, "seconds": kept, "any_size": self._fastest_of_any_size(seconds)})
        return self._result(chosen, self._fastest_of_any_size(seconds))

    def _as_remembered(self, ways: Sequence[Way], known: dict[str, object]) -> Tuned | None:
        """Returns what an earlier run chose, built and checked again; None if it is no longer possible."""
        times = known.get("seconds")
        wanted = [str(known["way"]), str(known.get("any_size", EAGER))]
        for way in ways:
            if way.name in wanted:
                self._try(way, always=True)
        if not isinstance(times, dict) or not set(wanted) <= set(self._allowed):
            self._allowed = {EAGER: self._module}
            self._attempts = {EAGER: self._attempts[EAGER]}
            return None
        for name in dict.fromkeys([EAGER, wanted[0]]):
            found = self._attempts[name]
            taken = times.get(name)
            seconds = float(taken) if isinstance(taken, int | float) else None
            self._attempts[name] = Attempt(name, seconds, found.agreement, found.max_error)
        return self._result(wanted[0], wanted[1], remembered=True)

    def _try(self, way: Way, *, always: bool = False) -> None:
        """Builds a way and compares its logits with eager's."""
        note, agreement, error = way.why_not, None, None
        late = time.monotonic() - self._start > self._settings.time_limit
        if not note and late and not always:
            note = f"left out: the time limit of {self._settings.time_limit:g} s was reached"
        if not note:
            try:
                with quiet():
                    run = way.build(self._module, self._images[0], self._programs)
                    agreement, error = self._compare(run)
            except Exception as failure:
                note = f"failed: {_first_line(failure)}"
            else:
                note = self._objection(agreement, error)
                if not note:
                    self._allowed[way.name] = run
        self._attempts[way.name] = Attempt(way.name, None, agreement, error, note)

    def _compare(self, run: Run) -> tuple[float, float]:
        equal, total, worst = 0, 0, 0.0
        for images, expected in zip(self._images, self._expected, strict=True):
            logits, wanted = (self._full_size(each, images) for each in (run(images), expected))
            if logits.shape != wanted.shape:
                raise ValueError(f"logits have shape {tuple(logits.shape)} instead of {tuple(wanted.shape)}")
            found = compare(logits, wanted, self._settings.thresholds)
            equal, total, worst = equal + found[0], total + found[1], max(worst, found[2])
            worst = math.nan if math.isnan(found[2]) else worst
        return equal / total, worst

    def _objection(self, agreement: float, error: float) -> str:
        """Returns why a way is not allowed, `""` if it is."""
        settings = self._settings
        if not math.isfinite(error):
            return "refused: logits that are not finite"
        if agreement < settings.min_agreement:
            return f"refused: min_agreement is {settings.min_agreement:.2%}"
        if settings.max_error is not None and error > settings.max_error:
            return f"refused: max_error is {settings.max_error:g}"
        return ""

    def _measure(self) -> dict[str, float]:
        images = self._images[0]
        works = {name: _call(run, self._full_size, images) for name, run in self._allowed.items()}
        with quiet():
            for work in works.values():
                work()
            seconds = race(works, self._device, _SHARE * self._settings.time_limit)
        for name, taken in seconds.items():
            found = self._attempts[name]
            self._attempts[name] = Attempt(name, taken, found.agreement, found.max_error)
        return seconds

    def _fastest_of_any_size(self, seconds: dict[str, float]) -> str:
        names = [way.name for way in find_ways(self._device, self._dtype, *self._asked()) if way.any_size]
        return min([EAGER, *(name for name in names if name in seconds)], key=lambda name: seconds[name])

    def _asked(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self._settings.precisions, self._settings.methods

    def _result(self, chosen: str, any_size: str, *, remembered: bool = False) -> Tuned:
        report = OptimizationReport(
            self._shape,
            chosen,
            tuple(self._attempts.values()),
            self._machine,
            remembered,
            time.monotonic() - self._start,
        )
        logger.info("optimized for %s", report.summary)
        return Tuned(self._allowed[chosen], self._allowed[any_size], report)


def _call(run: Run, full_size: Callable[[Tensor, Tensor], Tensor], images: Tensor) -> Callable[[], Tensor]:
    return lambda: full_size(run(images), images)


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:160]
