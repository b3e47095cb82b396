"""Until when a stage waits that is to be tried again."""

from dataclasses import replace

import pytest
from temporalio.testing import ActivityEnvironment

from activities.stage import _backoff
from workflows.options import llm_call


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 0.5), (2, 1), (5, 8), (8, 60), (9000, 60)])
def test_the_next_attempt_is_foretold_as_temporal_makes_it(attempt: int, seconds: float) -> None:
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info, attempt=attempt, retry_policy=llm_call("")["retry_policy"]
    )
    assert environment.run(_backoff).total_seconds() == seconds


def test_without_a_policy_it_is_not_waited() -> None:
    assert not ActivityEnvironment().run(_backoff)
