"""The project's habits hold: the workflows are pinned and bounded, and run what the Makefile has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["jobs"]
    return found


@each_workflow
def test_actions_are_pinned_by_commit_and_say_which_version(path: Path) -> None:
    used = re.findall(r"uses: (.+)", path.read_text())
    loose = [
        one
        for one in used
        if not one.startswith("./") and not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)
    ]
    assert loose == []


@each_workflow
def test_rights_are_given_by_job_and_time_is_bounded(path: Path) -> None:
    whole = yaml.safe_load(path.read_text())
    assert whole["permissions"] == {}
    for name, job in jobs(path).items():
        rights = job.get("permissions", {})
        assert set(rights.items()) <= {("contents", "read"), ("id-token", "write")}, name
        assert "uses" in job or job["timeout-minutes"] <= 120, name


@each_workflow
def test_checkouts_leave_no_credentials(path: Path) -> None:
    for job in jobs(path).values():
        for step in job.get("steps", []):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@each_workflow
def test_targets_and_scripts_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = path.read_text()
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    for matrix in re.findall(r"target: \[(.+)\]", text):
        assert set(matrix.split(", ")) <= targets
    assert [one for one in re.findall(r"scripts/\w+\.py", text) if not (ROOT / one).exists()] == []


def test_one_job_sums_up_all_others() -> None:
    found = jobs(ROOT / ".github" / "workflows" / "ci.yml")
    assert set(found["all-green"]["needs"]) == set(found) - {"all-green"}
    assert found["all-green"]["if"] == "always()"


def test_only_the_publishing_job_may_publish_and_it_runs_no_code_of_ours() -> None:
    found = jobs(ROOT / ".github" / "workflows" / "publish.yml")
    trusted = {name: job for name, job in found.items() if "id-token" in job.get("permissions", {})}
    assert list(trusted) == ["publish"]
    assert [step for step in trusted["publish"]["steps"] if "run" in step] == []
    assert "ci" in trusted["publish"]["needs"]


def test_every_target_has_a_line_of_help() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    helped = re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE)
    assert sorted(phony) == sorted(helped)


def test_the_pythons_of_the_matrix_are_those_of_the_classifiers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = [one.rpartition(" ")[2] for one in project["classifiers"] if re.search(r":: 3\.\d+$", one)]
    matrix = jobs(ROOT / ".github" / "workflows" / "ci.yml")["test"]["strategy"]["matrix"]["python"]
    assert matrix == said
    assert project["requires-python"] == f">={said[0]}"
