"""Recipes, images, citation, hooks, issue forms and the parts of `.ci/run` agree with pyproject.toml."""

from __future__ import annotations

import datetime
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import cryoseg

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
# conda-forge's names where they are not PyPI's.
CONDA_NAMES = {"torch": "pytorch", "huggingface-hub": "huggingface_hub"}


def read_yaml(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text())


def conda_requirements(lines: list[str]) -> dict[str, SpecifierSet]:
    found = {}
    for line in lines:
        name, _, bounds = line.partition(" ")
        found[name] = SpecifierSet(bounds)
    return found


def our_requirements(lines: list[str]) -> dict[str, SpecifierSet]:
    requirements = map(Requirement, lines)
    return {CONDA_NAMES.get(one.name, one.name): one.specifier for one in requirements}


class TestVersion:
    def test_it_is_written_once(self) -> None:
        assert PROJECT["project"]["dynamic"] == ["version"]
        assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/cryoseg/__init__.py"
        assert re.fullmatch(r"\d+\.\d+\.\d+", cryoseg.__version__)

    def test_the_others_agree(self) -> None:
        assert read_yaml("CITATION.cff")["version"] == cryoseg.__version__
        assert read_yaml("conda/recipe.yaml")["context"]["version"] == cryoseg.__version__
        assert f"image.version {cryoseg.__version__}\n" in (REPOSITORY / "apptainer.def").read_text()

    def test_the_changelog_has_its_heading(self) -> None:
        released = read_yaml("CITATION.cff")["date-released"]
        assert f"\n## {cryoseg.__version__} - {released}\n" in (REPOSITORY / "CHANGELOG.md").read_text()


class TestCondaRecipe:
    def test_run_requirements(self) -> None:
        ours = our_requirements(PROJECT["project"]["dependencies"])
        ours["python"] = SpecifierSet(f"{PROJECT['project']['requires-python']},<3.14")
        assert conda_requirements(read_yaml("conda/recipe.yaml")["requirements"]["run"]) == ours

    def test_host_requirements(self) -> None:
        found = conda_requirements(read_yaml("conda/recipe.yaml")["requirements"]["host"])
        ours = our_requirements(PROJECT["build-system"]["requires"])
        assert found.pop("python") == SpecifierSet(f"{PROJECT['project']['requires-python']},<3.14")
        assert found.pop("pip") == SpecifierSet()
        assert found == ours

    def test_entry_point_summary_and_licence(self) -> None:
        recipe = read_yaml("conda/recipe.yaml")
        scripts = [f"{name} = {target}" for name, target in PROJECT["project"]["scripts"].items()]
        assert recipe["build"]["python"]["entry_points"] == scripts
        assert recipe["about"]["summary"] == PROJECT["project"]["description"]
        assert recipe["about"]["license"] == PROJECT["project"]["license"]
        assert all((REPOSITORY / name).is_file() for name in recipe["about"]["license_file"])

    def test_rattler_build_reads_it(self) -> None:
        import rattler_build

        recipe = rattler_build.Stage0Recipe.from_file(REPOSITORY / "conda" / "recipe.yaml")
        (rendered,) = recipe.render()
        assert rendered.recipe.package.name == "cryoseg"
        assert str(rendered.recipe.package.version) == cryoseg.__version__

    def test_rattler_build_refuses_a_broken_one(self) -> None:
        import rattler_build

        text = (REPOSITORY / "conda" / "recipe.yaml").read_text().replace("requirements:", "requirement:", 1)
        with pytest.raises(rattler_build.RattlerBuildError, match="requirement"):
            rattler_build.Stage0Recipe.from_yaml(text)


class TestContainers:
    @pytest.mark.parametrize("name", ["conda/recipe.yaml", "Dockerfile", "apptainer.def"])
    def test_they_say_that_they_were_not_built(self, name: str) -> None:
        first = (REPOSITORY / name).read_text().splitlines()[0]
        assert first.startswith("# Not built here")

    @pytest.mark.parametrize("name", ["Dockerfile", "apptainer.def"])
    def test_the_python_is_one_of_ours(self, name: str) -> None:
        image = re.search(r"^from:? python:(\d+\.\d+)-slim$", (REPOSITORY / name).read_text(), re.M | re.I)
        assert image is not None
        assert image[1] in supported_pythons()

    @pytest.mark.parametrize("name", ["Dockerfile", "apptainer.def"])
    def test_they_copy_what_the_build_reads(self, name: str) -> None:
        text = (REPOSITORY / name).read_text()
        needed = {"pyproject.toml", PROJECT["project"]["readme"], "LICENSE", "NOTICE", "src"}
        copied = {
            word
            for line in text.splitlines()
            if line.startswith("COPY ") or "/opt/cryoseg/" in line
            for word in line.removeprefix("COPY ").split()
            if (REPOSITORY / word).exists() and not word.startswith((".", "/"))
        }
        assert copied == needed
        ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
        assert {line[1:] for line in ignored if line.startswith("!")} == needed

    def test_they_start_the_entry_point(self) -> None:
        assert list(PROJECT["project"]["scripts"]) == ["cryoseg"]
        assert '\nENTRYPOINT ["cryoseg"]\n' in (REPOSITORY / "Dockerfile").read_text()
        assert '\n    exec cryoseg "$@"\n' in (REPOSITORY / "apptainer.def").read_text()


def supported_pythons() -> list[str]:
    begin = "Programming Language :: Python :: "
    found = (line.removeprefix(begin) for line in PROJECT["project"]["classifiers"] if line.startswith(begin))
    return [version for version in found if "." in version]


class TestPythons:
    def test_they_are_the_same_everywhere(self) -> None:
        pythons = supported_pythons()
        assert pythons == ["3.11", "3.12", "3.13"]
        assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
        assert f"pythons=({' '.join(pythons)})" in (REPOSITORY / ".ci" / "run").read_text()
        assert PROJECT["tool"]["mypy"]["python_version"] == pythons[0]

    def test_the_conda_environment_leaves_packages_to_pip(self) -> None:
        dependencies = read_yaml("environment.yml")["dependencies"]
        assert dependencies == ["python >=3.11,<3.14", "pip", {"pip": ["."]}]


class TestCitation:
    # Of the schema of the Citation File Format 1.2.0: what it requires, and the keys that we use.
    REQUIRED = frozenset({"cff-version", "message", "title", "authors"})
    TEXT = frozenset({"message", "title", "abstract", "type", "license", "version", "date-released"})
    KNOWN = REQUIRED | TEXT | {"keywords", "doi", "identifiers", "preferred-citation", "references", "url"}

    def test_keys_and_kinds(self) -> None:
        citation = read_yaml("CITATION.cff")
        assert citation.keys() >= self.REQUIRED
        assert citation.keys() <= self.KNOWN
        assert all(isinstance(citation[key], str) and citation[key] for key in self.TEXT & citation.keys())
        assert citation["cff-version"] == "1.2.0"
        assert citation["type"] == "software"
        assert all("name" in author or "family-names" in author for author in citation["authors"])
        assert len(set(citation["keywords"])) == len(citation["keywords"]) > 0

    def test_licence_and_date(self) -> None:
        citation = read_yaml("CITATION.cff")
        assert citation["license"] == PROJECT["project"]["license"]
        datetime.date.fromisoformat(citation["date-released"])


class TestTools:
    def test_hooks_are_the_tools_of_the_dev_extra(self) -> None:
        hooks = [hook for repo in read_yaml(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
        names = {Requirement(line).name for line in PROJECT["project"]["optional-dependencies"]["dev"]}
        program_of = {"lint-imports": "import-linter"}
        for hook in hooks:
            program = hook["entry"].split()[0]
            assert hook["language"] == "system"
            assert program_of.get(program, program) in names
        # What a hook checks, the continuous integration checks in the same words.
        text = (REPOSITORY / ".ci" / "run").read_text()
        for command in ("ruff check", "ruff format --check", "mypy", "lint-imports"):
            assert any(hook["entry"].startswith(command) for hook in hooks)
            assert f"\n  {command}" in text

    def test_issue_forms(self) -> None:
        folder = REPOSITORY / ".github" / "ISSUE_TEMPLATE"
        forms = [path for path in folder.glob("*.yml") if path.name != "config.yml"]
        assert len(forms) == 3
        for path in forms:
            form = yaml.safe_load(path.read_text())
            assert form.keys() >= {"name", "description", "body"}
            assert all(part["type"] in {"textarea", "input", "checkboxes"} for part in form["body"])
            keys = [part["id"] for part in form["body"]]
            assert len(set(keys)) == len(keys)
            assert all(part["attributes"]["label"] for part in form["body"])
        assert "cryoseg doctor" in (folder / "bug.yml").read_text()

    def test_every_part_of_the_integration_is_documented(self) -> None:
        script = REPOSITORY / ".ci" / "run"
        parts = subprocess.check_output(["bash", script, "--list"], text=True).split()
        guide = (REPOSITORY / "CONTRIBUTING.md").read_text()
        assert all(f"\nrun_{part}()" in script.read_text() for part in parts)
        assert not [part for part in parts if f"`{part}`" not in guide]

    def test_a_part_that_does_not_exist_is_refused(self) -> None:
        told = subprocess.run(
            ["bash", REPOSITORY / ".ci" / "run", "nonsense"], capture_output=True, text=True, check=False
        )
        assert told.returncode == 2
        assert "nonsense" in told.stderr
        assert "lint types contracts" in told.stderr

    def test_markers_of_pyproject_are_those_of_the_guide(self) -> None:
        guide = (REPOSITORY / "CONTRIBUTING.md").read_text()
        markers = [line.partition(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]]
        assert not [marker for marker in markers if f"`{marker}`" not in guide]
