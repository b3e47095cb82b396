"""The two images: each holds what its processes import, and no package that they do not."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = {
    name: text
    for text in re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:]
    for name in re.findall(r"^FROM \S+ AS (\S+)", text)
}
# What each image runs, by what it is started with.
PROGRAMS = {
    "rein": ["worker", "api.__main__", "api.keys", "api.pseudonym", "alembic.config"],
    "ship": ["tracing.ship.__main__"],
}
REQUIREMENTS = {"rein": "requirements.txt", "ship": "requirements-ship.txt"}
# Imports modules as if only these packages were installed.
IMPORT = """
import importlib, importlib.metadata, sys
packages, modules = sys.argv[1].split(","), sys.argv[2:]
owners = importlib.metadata.packages_distributions()

class Installed:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        names = [owner.lower().replace("_", "-").replace(".", "-") for owner in owners.get(top, ())]
        if names and not set(names) & set(packages):
            raise ModuleNotFoundError(f"no {top}", name=name)

sys.meta_path.insert(0, Installed())
for name in modules:
    importlib.import_module(name)
"""


def copied(image: str) -> list[str]:
    """The files and folders of the repository that stand in an image."""
    lines = re.findall(r"^COPY (?!--from)(.+) (\S+)$", STAGES["base"] + STAGES[image], re.MULTILINE)
    return [name for names, _ in lines for name in names.split()]


def locked(image: str) -> set[str]:
    """The packages that stand in an image."""
    text = (ROOT / REQUIREMENTS[image]).read_text()
    return set(re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==", text, re.MULTILINE))


@pytest.mark.parametrize("image", PROGRAMS)
def test_an_image_holds_what_its_programs_import(image: str, tmp_path: Path) -> None:
    for name in copied(image):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name)
        else:
            shutil.copy(source, tmp_path / name)
    command = [sys.executable, "-c", IMPORT, ",".join(locked(image)), *PROGRAMS[image]]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_what_opik_brings_does_not_stand_beside_the_gemini_key() -> None:
    brought = {"opik", "litellm", "openai", "boto3"}
    assert brought <= locked("ship")
    assert not brought & locked("rein")
    for image in PROGRAMS:
        assert f"COPY {REQUIREMENTS[image]} ." in STAGES[f"build-{image}"]
        assert "--require-hashes" in STAGES[f"build-{image}"]
        assert f"COPY --from=build-{image} /opt/venv /opt/venv" in STAGES[image]
        assert re.search(r"^USER \d+", STAGES[image], re.MULTILINE)


@pytest.mark.parametrize("image", PROGRAMS)
def test_the_build_may_read_what_it_copies(image: str) -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for name in (*copied(image), REQUIREMENTS[image]):
        assert f"!{name}" in allowed
