"""The models of the answers: what is stored in PostgreSQL, with links."""

from uuid import UUID

from pydantic import BaseModel, Field, field_serializer

from api.links import RunLinks
from domain.feedback import Feedback
from domain.plans import Plan
from domain.resolutions import Resolution
from domain.results import GoalReport, GoalSummary, RunReport, RunSummary


class Run(RunReport):
    """A run of any kind. `links.result` is the URL of the run with all its results."""

    notice: str | None = Field(description="What one must know of this installation, if anything")
    links: RunLinks


class GoalRun(GoalReport):
    """A run that works on a goal, with its results so far."""

    notice: str | None = Field(description="What one must know of this installation, if anything")
    links: RunLinks


class RunItem(RunSummary):
    """A run in a list. `link` is the URL of the whole run."""

    link: str


class RunPage(BaseModel):
    """A page of runs, newest first. `next_cursor` is null on the last page."""

    items: list[RunItem]
    next_cursor: str | None


class GoalItem(GoalSummary):
    """A goal in a list. `link` is the URL of the whole goal with its results."""

    link: str


class GoalPage(BaseModel):
    """A page of goals, newest first. `next_cursor` is null on the last page."""

    items: list[GoalItem]
    next_cursor: str | None


class StoredResolution(Resolution):
    trace_id: UUID
    link: str = Field(description="The run that wrote it")


class StoredPlan(Plan):
    trace_id: UUID
    link: str = Field(description="The run that made it")


class StoredFeedback(Feedback):
    """One person's current feedback on a run. `revision` is 1 until the feedback is replaced."""

    @field_serializer("rating", when_used="json")
    def _number(self, rating: object) -> float:
        return float(str(rating))


class TraceFeedback(BaseModel):
    """The current feedback of all people on one run."""

    trace_id: UUID
    count: int = Field(description="People who rated it")
    average: float | None = Field(description="Mean of the current ratings, two decimals")
    shares: dict[str, float | None] = Field(
        description="By dimension the share of yes, 0 to 1, among those who answered"
    )
    replaced: int = Field(description="Earlier feedback that was replaced; it is kept")
    items: list[StoredFeedback] = Field(description="Newest first, at most 100")
