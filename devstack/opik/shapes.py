"""The types of what clients write: a document Opik could not read is refused, never stored."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from devstack.opik.errors import Refused
from devstack.opik.store import Doc

# A token count is a Java int; dollars end where whole 1e-12 ones no longer fit SQLite's integers.
Tokens = Annotated[StrictInt, Field(ge=-(2**31), lt=2**31)]
Dollars = Annotated[Decimal, Field(ge=-9_000_000, le=9_000_000, allow_inf_nan=False)]


class _Open(BaseModel):
    """Unknown fields pass, and null is the same as absent."""

    model_config = ConfigDict(extra="ignore")


class ErrorInfo(_Open):
    """What an error must say."""

    exception_type: StrictStr
    message: StrictStr | None = None
    traceback: StrictStr


class TraceShape(_Open):
    """A trace, or a change of one."""

    id: StrictStr | None = None
    project_id: StrictStr | None = None
    project_name: StrictStr | None = None
    name: StrictStr | None = None
    thread_id: StrictStr | None = None
    tags: list[StrictStr] | None = None
    tags_to_add: list[StrictStr] | None = None
    tags_to_remove: list[StrictStr] | None = None
    error_info: ErrorInfo | None = None


class SpanShape(TraceShape):
    """A span, or a change of one."""

    type: Literal["general", "tool", "llm", "guardrail"] | None = None
    model: StrictStr | None = None
    provider: StrictStr | None = None
    usage: dict[str, Tokens] | None = None
    total_estimated_cost: Dollars | None = None


class ScoreShape(_Open):
    """A feedback score; its value has rules of its own."""

    project_name: StrictStr | None = None
    name: StrictStr | None = None
    reason: StrictStr | None = None
    category_name: StrictStr | None = None
    source: StrictStr | None = None


def check_shape(shape: type[BaseModel], doc: Doc) -> None:
    """Raises Refused(400) for a field of a wrong type."""
    try:
        shape.model_validate(doc)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(400, "Unable to process JSON", f"{where}: {first['msg']}") from error
