"""Settings: a wrong variable is told in a sentence, without its value."""

from typing import Any

import pytest
from pydantic import ValidationError

from settings import Settings, auth_mode, read_settings


def test_a_wrong_variable_ends_the_process_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REIN_MODEL_TIMEOUT_S", "hunter2")

    with pytest.raises(SystemExit) as ended:
        read_settings()

    assert "REIN_MODEL_TIMEOUT_S: Input should be a valid number" in str(ended.value.code)
    assert "hunter2" not in str(ended.value.code)


def settings(**variables: Any) -> Settings:
    return Settings(_env_file=None, **variables)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_without_keys_the_api_serves_this_machine(host: str) -> None:
    assert auth_mode(settings(auth="off"), host) == "off"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.7", "rein.example", "127.1"])
def test_without_keys_the_api_serves_no_other_machine(host: str) -> None:
    with pytest.raises(SystemExit, match="this machine's own addresses alone"):
        auth_mode(settings(auth="off"), host)


def test_without_keys_the_api_serves_no_other_environment() -> None:
    chosen = settings(auth="off", environment="production", key_pepper="long and random")
    with pytest.raises(SystemExit, match="in the environment 'local' alone"):
        auth_mode(chosen, "127.0.0.1")


def test_the_pepper_that_everybody_knows_is_local() -> None:
    with pytest.raises(SystemExit, match="REIN_KEY_PEPPER is not set") as ended:
        auth_mode(settings(environment="production"), "127.0.0.1")
    assert "rein-local" not in str(ended.value.code)
    assert auth_mode(settings(), "0.0.0.0") == "keys"
    own = settings(environment="production", key_pepper="long and random")
    assert auth_mode(own, "0.0.0.0") == "keys"
    assert "long and random" not in repr(own)


@pytest.mark.parametrize("environment", ["two words", "größer", "x" * 41, "a/b"])
def test_an_environment_fits_into_a_key(environment: str) -> None:
    with pytest.raises(ValidationError):
        settings(environment=environment)
