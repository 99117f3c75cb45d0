"""Looks up the packages that are installed in this environment in PyPI's database of known vulnerabilities.

pip-audit does the look-up; uv fetches it. Exit codes: 0 nothing is known, 1 something is, 3 the database could not be
asked (no network, or a mirror without advisories), so that nothing was learned.
"""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NOTHING_LEARNED = 3
OWN = re.compile(r"seg-(core|models|datasets|train|hub)")
# A release with many known vulnerabilities, which is only looked up: a database that does not know them was not asked.
CANARY = "django==3.0"


def installed() -> list[str]:
    """Returns the packages of this environment as requirements, without ours and without the build that was chosen."""
    found = {}
    for package in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
        if not OWN.fullmatch(name):
            found[name] = f"{name}=={package.version.partition('+')[0]}"
    return sorted(found.values())


def judge(answer: dict[str, Any]) -> tuple[int, list[str]]:
    """Returns the exit code and what to say of an answer of pip-audit in JSON, which holds the canary."""
    canary, packages = CANARY.partition("==")[0], answer["dependencies"]
    known = [p for p in packages if p["name"] == canary and p.get("vulns")]
    if not known:
        return NOTHING_LEARNED, [
            f"the database was not reached: it knows no vulnerability of {CANARY}, which has many. Nothing was "
            "learned; run this where https://pypi.org/pypi/ can be reached, not through a mirror of packages alone"
        ]
    lines, code = [], 0
    for package in packages:
        if package["name"] == canary:
            continue
        if "skip_reason" in package:
            lines.append(f"not looked up: {package['skip_reason']}")
        for vulnerability in package.get("vulns", ()):
            code = 1
            names = ", ".join([vulnerability["id"], *vulnerability.get("aliases", ())])
            since = ", ".join(vulnerability.get("fix_versions", ())) or "no release yet"
            lines.append(f"{package['name']} {package['version']}: {names}; corrected in {since}")
    looked_up = sum("vulns" in package for package in packages) - 1
    return code, [*lines, f"{looked_up} packages looked up, {'see above' if code else 'nothing is known of them'}"]


def main() -> int:
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("\n".join([*installed(), CANARY]) + "\n", encoding="utf-8")
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        command = [uv, "tool", "run", "pip-audit", "--requirement", str(requirements), *options]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"pip-audit could not be run, so nothing was learned: {error}", file=sys.stderr)
            return NOTHING_LEARNED
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        reason = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        print(f"the database was not reached, so nothing was learned: {reason[0]}", file=sys.stderr)
        return NOTHING_LEARNED
    code, lines = judge(answer)
    print("\n".join(lines), file=sys.stderr if code == NOTHING_LEARNED else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
