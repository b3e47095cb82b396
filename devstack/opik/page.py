"""What all pages share: the template environment, the security headers, the frame."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from devstack.opik.http import Call, Reply
from devstack.opik.present import FILTERS, visible
from devstack.opik.projects import all_projects
from devstack.opik.store import find_project

HERE = Path(__file__).parent
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
        " object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    made.tests["match_prefix"] = str.startswith
    return made


ENVIRONMENT = _environment()


def html(call: Call, template: str, status: int = 200, **values: object) -> Reply:
    """A page made from a template."""
    text = ENVIRONMENT.get_template(template).render(base=call.base, **values)
    return Reply(status, text.encode(), SECURITY, "text/html; charset=utf-8")


class Frame:
    """What every page shows around its own part: the projects, and the one it is about."""

    def __init__(self, call: Call, project: str | None = None) -> None:
        self.db = call.store.read()
        self.projects = all_projects(self.db)
        wanted = project or call.query.get("project", "")
        named = find_project(self.db, wanted)
        known = [str(row["id"]) for row in self.projects]
        found = [each for each in (wanted, named) if each is not None and each in known]
        self.project: str = (found or known or [""])[0]

    @property
    def name(self) -> str:
        """The project's name."""
        found = [row["name"] for row in self.projects if row["id"] == self.project]
        return found[0] if found else "no project yet"


def missing(call: Call, why: str = "There is no such page.") -> Reply:
    """A page for what is not there."""
    return html(call, "missing.html", 404, frame=Frame(call), tab="", why=why)
