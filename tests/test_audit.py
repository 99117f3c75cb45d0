"""The audit of dependencies: what it says of an answer, and that an answer of nothing is no good news."""

import importlib.metadata
import runpy
from pathlib import Path

AUDIT = runpy.run_path(str(Path(__file__).resolve().parent.parent / "scripts" / "audit_dependencies.py"))
CANARY = {"name": "django", "version": "3.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1"]}]}
SOUND = {"name": "numpy", "version": "2.0", "vulns": []}


def test_nothing_known_is_0_if_the_canary_is_known():
    assert AUDIT["judge"]({"dependencies": [SOUND, CANARY]}) == (0, ["1 packages looked up, nothing is known of them"])


def test_a_vulnerability_is_1_and_named_with_its_release():
    vulnerability = {"id": "PYSEC-2", "aliases": ["CVE-1"], "fix_versions": ["2.6.0"]}
    code, lines = AUDIT["judge"](
        {"dependencies": [{"name": "torch", "version": "2.5", "vulns": [vulnerability]}, CANARY]}
    )
    assert (code, lines[0]) == (1, "torch 2.5: PYSEC-2, CVE-1; corrected in 2.6.0")


def test_a_database_that_was_not_reached_is_3():
    # pip-audit itself calls both of these a success: no package was looked up, or a mirror answered without advisories
    skipped = {"name": "django", "skip_reason": "Dependency not found on PyPI and could not be audited: django (3.0)"}
    for canary in (skipped, {**CANARY, "vulns": []}):
        code, lines = AUDIT["judge"]({"dependencies": [SOUND, canary]})
        assert code == AUDIT["NOTHING_LEARNED"] == 3
        assert "was not reached" in lines[0]


def test_packages_that_were_skipped_are_named():
    skipped = {"name": "own", "skip_reason": "own (1.0) is not on PyPI"}
    code, lines = AUDIT["judge"]({"dependencies": [skipped, SOUND, CANARY]})
    assert (code, lines[0]) == (0, "not looked up: own (1.0) is not on PyPI")


def test_installed_packages_are_those_of_others_without_local_versions():
    found = AUDIT["installed"]()
    assert f"torch=={importlib.metadata.version('torch').partition('+')[0]}" in found
    assert not any(line.startswith("seg-") or "+" in line for line in found)
