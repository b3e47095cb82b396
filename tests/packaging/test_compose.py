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


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_log_grows_without_end(name: str) -> None:
    assert SERVICES[name]["logging"]["options"] == {"max-size": "20m", "max-file": "5"}


def test_only_the_proxy_and_the_ui_are_published_and_only_here() -> None:
    """What is published cannot be scaled: the second copy finds the port taken."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "proxy": ["127.0.0.1:8000:8000"],
        "temporal-ui": ["127.0.0.1:8233:8233"],
    }
    assert "server api:8000 resolve" in (ROOT / "docker/proxy.conf").read_text()


def test_the_example_names_every_variable_and_gives_those_that_are_needed_no_value() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    optional = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    example = (ROOT / "docker/production.env.example").read_text()
    assert set(re.findall(r"^(\w+)=''$", example, re.MULTILINE)) == needed
    assert dict(re.findall(r"^#(\w+)='(.*)'$", example, re.MULTILINE)) == optional


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
    # PGPASSWORD is asyncpg's own.
    assert set(SERVICES[name]["environment"]) <= {*variables(), "PGPASSWORD"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_secret_stands_in_the_file(name: str) -> None:
    for variable, value in (SERVICES[name].get("environment") or {}).items():
        if re.search("PASSWORD|PWD|KEY|SECRET", variable):
            assert "${" in str(value), variable
        assert not re.search("://[^/]*:[^/]*@", str(value)), variable


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


def test_hadolint_finds_nothing() -> None:
    lint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([lint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
