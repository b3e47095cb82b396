"""What all pages share: the template environment and the frame."""

from inspect import isfunction
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from devstack.opik import present
from devstack.opik.calls import Call
from devstack.opik.projects import all_projects
from devstack.opik.store import find_project
from devstack.standin import HtmlPage

HERE = Path(__file__).parent
ENVIRONMENT = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=present.visible,
    trim_blocks=True,
    lstrip_blocks=True,
)
# Every function there is a filter of its name.
ENVIRONMENT.filters.update({k: v for k, v in vars(present).items() if isfunction(v)})


class Frame:
    """What every page shows around its own part: the projects, and the one it is about."""

    def __init__(self, call: Call, project: str | None = None) -> None:
        self.db = call.store.read()
        self.projects = all_projects(self.db)
        asked = project or call.query.get("project", "")
        known = {each["id"]: each["name"] for each in self.projects}
        named = find_project(self.db, asked)
        found = [each for each in (asked, named, *known) if each is not None and each in known]
        self.project = next(iter(found), "")
        self.name = known.get(self.project, "no project yet")


def html(call: Call, template: str, frame: Frame, status: int = 200, **values: object) -> HtmlPage:
    """A page made from a template."""
    text = ENVIRONMENT.get_template(template).render(base=call.base, frame=frame, **values)
    return HtmlPage(text, status)


def missing(call: Call, why: str = "There is no such page.") -> HtmlPage:
    """A page for what is not there."""
    return html(call, "missing.html", Frame(call), 404, tab="", why=why)
