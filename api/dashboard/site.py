"""The dashboard within the app: its routes, what it serves as files, and its errors as pages."""

from typing import Final
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from api.dashboard import charts, customer, pages, redemptions, rendering, signing_in, visiting
from api.problems import ProblemError

#: What pages load.
STATIC: Final = "/static"

router = APIRouter(include_in_schema=False)
for _module in (signing_in, pages, customer, redemptions):
    router.include_router(_module.router)

_PAGES: Final = ("/shops/", "/sign-in", "/sign-out")

#: A browser keeps the chart library for a week: it changes with its package alone.
_KEPT: Final = "public, max-age=604800"


def _is_page(request: Request) -> bool:
    path = request.url.path
    return path == "/" or path.startswith(_PAGES)


def problem(request: Request, found: ProblemError) -> Response | None:
    """A problem as a page, where a page was asked for; None elsewhere."""
    if not _is_page(request):
        return None
    writing = rendering.Writing(rendering.locales_of(request))
    titles = {
        401: writing.gettext("Please sign in"),
        403: writing.gettext("Not allowed"),
        404: writing.gettext("Not found"),
        429: writing.gettext("Too many requests"),
        503: writing.gettext("Not possible just now"),
    }
    title = titles.get(found.status, writing.gettext("Something went wrong"))
    shown = rendering.page(request, "error.html", status=found.status, title=title, problem=found)
    shown.headers.update(found.headers or {})
    return shown


async def _sign_in_first(request: Request, _error: Exception) -> Response:
    return RedirectResponse(f"/sign-in?next={quote(_page_of(request), safe='')}", 303)


def _page_of(request: Request) -> str:
    """Where to be after signing in: the page that was asked for; or that a form was sent from, since where it was sent
    to nothing can be read."""
    if request.method == "GET":
        return request.url.path + (f"?{request.url.query}" if request.url.query else "")
    page = urlsplit(request.headers.get("referer", ""))
    if page.netloc != request.headers.get("host"):
        return "/"
    return page.path + (f"?{page.query}" if page.query else "")


@router.get(f"{STATIC}/plotly.min.js")
async def plotly() -> FileResponse:
    """The chart library, of its own package."""
    return FileResponse(charts.LIBRARY, media_type="text/javascript", headers={"Cache-Control": _KEPT})


def install(app: FastAPI) -> None:
    """Adds to an app with the dashboard's routes what else it takes."""
    app.add_exception_handler(visiting.SignInError, _sign_in_first)
    app.mount(STATIC, StaticFiles(directory=rendering.STATIC), name="static")
