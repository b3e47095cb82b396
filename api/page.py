"""Serves the documentation page.

The page loads its scripts and styles from the API alone, so it works offline and under a strict
Content-Security-Policy.
"""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, RedirectResponse

router = APIRouter(include_in_schema=False)

_STATIC = Path(__file__).parent / "static"
_PROGRAMS = Path(__file__).parents[1] / "examples"
_POLICY = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
}


@router.get("/")
async def index() -> RedirectResponse:
    return RedirectResponse("/docs", 307)


@router.get("/docs")
async def docs() -> FileResponse:
    return FileResponse(_STATIC / "docs.html", headers=_POLICY)


@router.get("/docs.js")
async def docs_script() -> FileResponse:
    return FileResponse(_STATIC / "docs.js", media_type="text/javascript")


@router.get("/docs.css")
async def docs_style() -> FileResponse:
    return FileResponse(_STATIC / "docs.css")


@router.get("/docs/caller.py")
async def python_caller() -> FileResponse:
    return FileResponse(_PROGRAMS / "python/caller.py", media_type="text/plain")


@router.get("/docs/caller.ts")
async def typescript_caller() -> FileResponse:
    return FileResponse(_PROGRAMS / "typescript/caller.ts", media_type="text/plain")
