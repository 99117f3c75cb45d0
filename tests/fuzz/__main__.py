"""`hatch run fuzz`: tries inputs until the time is over, and continues with the next seeds when it is called again."""

import argparse
import itertools
import sys
import time
from pathlib import Path

from tests.fuzz.harness import BAD, NAMES, corpus_of, load
from tests.fuzz.loop import Counts, Finding, Worker, read_counts, run, save_finding, seeds, write_counts

_SAVED_EVERY = 10.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="hatch run fuzz", description=__doc__)
    parser.add_argument(
        "--harness", action="append", choices=NAMES, help="a harness; repeat it for several (default: all)"
    )
    parser.add_argument("--minutes", type=float, help="time for all harnesses together (default: 1)")
    parser.add_argument("--count", type=int, help="inputs of each harness, instead of a time")
    parser.add_argument("--seed", type=int, help="tries this seed of the harness alone")
    parser.add_argument("--input", help="tries this file, or this input of the corpus, with the harness alone")
    parser.add_argument(
        "--out", type=Path, default=Path(".fuzz"), help="folder for counts and findings (default: .fuzz)"
    )
    parser.add_argument(
        "--first-seed",
        type=int,
        default=0,
        help="tries no seed below this one, so that two machines try different ones",
    )
    given = parser.parse_args()
    names = given.harness or list(NAMES)
    if given.seed is not None or given.input is not None:
        if len(names) != 1:
            parser.error("--seed and --input need one --harness")
        return _repeat(names[0], given.seed if given.input is None else _bytes_of(names[0], given.input))
    seconds = 60 * (1.0 if given.minutes is None else given.minutes) / len(names)
    if given.count is not None:
        seconds = float("inf")
    all_counts = read_counts(given.out / "counts.json")
    bad = 0
    for name in names:
        all_counts[name].next_seed = max(all_counts[name].next_seed, given.first_seed)
        bad += _run(name, all_counts, seconds, given.count, given.out)
    return 1 if bad else 0


def _bytes_of(name: str, given: str) -> bytes:
    corpus = corpus_of(name, load(name))
    return corpus[given]() if given in corpus else Path(given).read_bytes()


def _run(name: str, all_counts: dict[str, Counts], seconds: float, count: int | None, out: Path) -> int:
    """Runs one harness; returns the number of findings."""
    counts = all_counts[name]
    before = sum(counts.outcomes[outcome] for outcome in BAD)
    end = saved = 0.0

    def goes_on() -> bool:
        nonlocal end, saved
        now = time.monotonic()
        end = end or now + seconds
        if now - saved > _SAVED_EVERY:
            saved = now
            write_counts(out / "counts.json", all_counts)
        return now < end

    worker = Worker(name)
    found = itertools.islice(seeds(counts.next_seed), count)
    try:
        run(worker, name, itertools.chain(corpus_of(name, load(name)), found), counts, lambda f: _show(f, out), goes_on)
    finally:
        worker.close()
        write_counts(out / "counts.json", all_counts)
    print(f"{name}: {counts.line()}", flush=True)
    return sum(counts.outcomes[outcome] for outcome in BAD) - before


def _show(finding: Finding, out: Path) -> None:
    path = save_finding(finding, out / "findings")
    again = f"{'--seed' if isinstance(finding.what, int) else '--input'} {finding.what}"
    print(f"{finding.harness} {finding.what}: {finding.outcome}: {finding.text[:300]!a} at {finding.place}")
    print(f"    hatch run fuzz --harness {finding.harness} {again}    # {path}", flush=True)


def _repeat(name: str, what: int | bytes) -> int:
    worker = Worker(name)
    outcome, text, place, seconds, peak = worker.attempt(name, what)
    worker.close()
    print(f"{name}: {outcome} after {seconds:.2f} s, {peak / 2**20:.0f} MiB; {text!a} {place}")
    return 1 if outcome in BAD else 0


if __name__ == "__main__":
    sys.exit(main())
