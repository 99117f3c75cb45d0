"""The workflows of GitHub: their syntax, and that what they run exists. They cannot be run here."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PACKAGES = {path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")}


def parse(path):
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps_of(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_are_workflows_and_updates():
    assert {path.name for path in WORKFLOWS} >= {"tests.yml", "publish.yml"}
    updates = parse(ROOT / ".github" / "dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"github-actions", "pip"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_only_and_names_the_versions_of_its_actions(path):
    workflow = parse(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        # the one permission more is that of trusted publishing, of the job that runs no code of the repository
        assert job.get("permissions", {}) in ({}, {"id-token": "write"})
        if "permissions" in job:
            assert name == "publish"
            assert not any("run" in step or "checkout" in step["uses"] for step in job["steps"])
    for step in steps_of(workflow):
        assert ("run" in step) != ("uses" in step)
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(release/)?v\d+", step["uses"]), step["uses"]
        else:  # what others choose, such as the name of a branch, is no part of a script
            assert not re.search(r"\$\{\{(?!\s*(matrix\.|github\.run_number))", step["run"])
    assert "secrets." not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_workflow_runs_exists(path):
    environments = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["envs"]
    for step in steps_of(parse(path)):
        for script in re.findall(r"hatch run ([\w:-]+)", step.get("run", "")):
            environment, _, name = script.rpartition(":")
            assert name in environments[environment or "default"]["scripts"], script
        for file in re.findall(r"^\.[\w/]+$", step.get("run", ""), re.M):
            assert (ROOT / file).is_file(), file


def test_tests_run_on_the_versions_and_systems_that_are_promised():
    job = parse(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["test"]
    matrix = job["strategy"]["matrix"]
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
    for package in PACKAGES:
        project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        promised = {line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)}
        assert set(matrix["python"]) == promised, package


def test_every_package_can_be_published():
    text = (ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^ +(seg-\w+(?: \| seg-\w+)*)\) ;;$", text, re.M)
    assert set(listed.split(" | ")) == PACKAGES
