"""The production shape, linted: no engine runs here, so the files are held against the code."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_pydantic import ComposeSpecification

from devstack.temporal import DYNAMIC_CONFIG
from settings import Settings
from worker import GRACE

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"temporal-schema", "temporal-namespace", "migrate"}
OURS = {"migrate", "api", "worker", "shipper"}


def variables() -> set[str]:
    """Every environment variable that settings.py reads."""
    found = set()
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        found |= {alias} if isinstance(alias, str) else set(getattr(alias, "choices", ()))
    return found


def test_the_file_fits_the_compose_specification() -> None:
    plain = {key: value for key, value in COMPOSE.items() if not key.startswith("x-")}
    ComposeSpecification.model_validate(plain)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.search(r":(\$\{REIN_VERSION:-)?\d+\.\d+(\.\d+)?", image), image
    assert "latest" not in image


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_what_stays_up_has_a_health_check_and_a_limit(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"]
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert "no-new-privileges:true" in service["security_opt"]


def test_only_the_api_and_the_ui_are_published_and_only_here() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "api": ["127.0.0.1:8000:8000"],
        "temporal-ui": ["127.0.0.1:8233:8233"],
    }


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_the_start_order_names_real_services_and_fitting_conditions(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        if other in ONE_SHOT:
            assert wanted["condition"] == "service_completed_successfully"
        else:
            assert wanted["condition"] == "service_healthy"
            assert "healthcheck" in SERVICES[other]


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_variable_is_one_that_the_code_reads(name: str) -> None:
    assert set(SERVICES[name]["environment"]) <= variables()


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_secret_stands_in_the_file(name: str) -> None:
    for variable, value in (SERVICES[name].get("environment") or {}).items():
        if re.search("PASSWORD|PWD|KEY|SECRET|DATABASE_URL", variable):
            assert "${" in str(value), variable


@pytest.mark.parametrize("name", sorted(OURS))
def test_commands_name_what_exists(name: str) -> None:
    command = SERVICES[name]["command"]
    if command[1] == "-m":
        assert importlib.util.find_spec(command[2])
    else:
        assert (ROOT / command[1]).is_file()


def test_the_api_is_asked_for_its_health_on_the_port_that_is_not_published() -> None:
    port = Settings.model_fields["api_operations_port"].default
    assert f"http://127.0.0.1:{port}/livez" in SERVICES["api"]["healthcheck"]["test"][-1]
    assert not any(str(port) in published for published in SERVICES["api"]["ports"])


def test_the_image_listens_to_the_other_containers() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for variable in ("REIN_API_HOST", "REIN_API_OPERATIONS_HOST"):
        assert variable in variables()
        assert f"{variable}=0.0.0.0" in text


def test_the_worker_may_finish_its_calls() -> None:
    seconds = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert seconds > GRACE.total_seconds()


def test_mounted_files_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).is_file(), source


def test_the_server_gets_the_flags_of_the_development_stack() -> None:
    text = (ROOT / "docker/temporal-dynamic-config.yaml").read_text()
    config = {name: values[0]["value"] for name, values in yaml.safe_load(text).items()}
    assert config == {name: yaml.safe_load(value) for name, value in DYNAMIC_CONFIG.items()}


def test_the_image_holds_every_room_and_the_runtime_requirements_only() -> None:
    text = (ROOT / "Dockerfile").read_text()
    rooms = {"activities", "api", "db", "domain", "llm", "prompts", "tracing", "workflows"}
    shown = {"examples"}  # the page /docs shows them
    assert rooms | shown == set(re.findall(r"^COPY (\w+) \1$", text, re.MULTILINE))
    assert "--require-hashes" in text
    assert "requirements-dev" not in text
    assert re.search(r"^USER \d+", text, re.MULTILINE)


def test_what_the_image_copies_reaches_the_engine() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = " ".join(re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE)).split()
    sent = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{name}" for name in copied} <= set(sent)


def test_hadolint_finds_nothing() -> None:
    lint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([lint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
