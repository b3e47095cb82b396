"""Settings: a wrong variable is told in a sentence, without its value."""

import pytest

from settings import read_settings


def test_a_wrong_variable_ends_the_process_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REIN_MODEL_TIMEOUT_S", "hunter2")

    with pytest.raises(SystemExit) as ended:
        read_settings()

    assert "REIN_MODEL_TIMEOUT_S: Input should be a valid number" in str(ended.value.code)
    assert "hunter2" not in str(ended.value.code)
