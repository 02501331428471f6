"""Signing in: an API key, a one-time link or a session token of Shopify's for a cookie; and who is signed in."""

from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from api.context import COOKIE, Credentials, Services, same_origin, services_of
from api.dashboard import rendering
from api.limits import KEY_SECONDS, within
from api.problems import ProblemError
from books import api_keys, sessions

router = APIRouter(include_in_schema=False)

_LONGEST: Final = 4000

_NO_KEY: Final = "no-key"
_NO_LINK: Final = "no-link"


def inside(address: str) -> str:
    """An address of our own pages, or `/`: nobody is sent elsewhere by a parameter."""
    parts = urlsplit(address)
    own = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return address if own and "\\" not in address and address.isprintable() else "/"


async def signed_in(request: Request) -> api_keys.Granted | None:
    """What whoever sent the request may do, by cookie or key."""
    credentials = Credentials.of(request)
    return None if credentials is None else await services_of(request).granted(credentials)


def put_cookie(response: Response, request: Request, cookie: str, *, embedded: bool = False) -> None:
    """Signs in. Inside Shopify's admin the cookie is a third party's: of that frame alone (partitioned)."""
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=int(sessions.LASTS.total_seconds()),
        httponly=True,
        secure=embedded or request.url.scheme == "https",
        samesite="none" if embedded else "lax",
    )
    if embedded:  # starlette sets it on Python 3.14 alone
        response.headers["set-cookie"] = response.headers["set-cookie"] + "; Partitioned"


def refuse_others(request: Request) -> None:
    """A problem (403) for a form that another site sent."""
    if not same_origin(request):
        raise ProblemError(403, "cross-site", "This form was sent by another site.")


@router.get("/sign-in")
async def sign_in_page(
    request: Request, after: Annotated[str, Query(alias="next", max_length=_LONGEST)] = "/"
) -> Response:
    """The form; a link's token stands behind `#`, where no log sees it, and a module sends it from there."""
    return rendering.page(request, "sign_in.html", next=inside(after), failed="")


@router.post("/sign-in")
async def sign_in(
    request: Request,
    key: Annotated[str, Form(max_length=_LONGEST)] = "",
    link: Annotated[str, Form(max_length=_LONGEST)] = "",
    after: Annotated[str, Form(alias="next", max_length=_LONGEST)] = "/",
) -> Response:
    """A cookie for an API key, or for a link's token."""
    refuse_others(request)
    services = services_of(request)
    opened = _by_link(services, link.strip()) if link.strip() else _by_key(services, key.strip())
    cookie = await within(KEY_SECONDS, opened)
    if cookie is None:
        failed = _NO_LINK if link.strip() else _NO_KEY
        return rendering.page(request, "sign_in.html", status=401, next=inside(after), failed=failed)
    response = RedirectResponse(inside(after), 303)
    put_cookie(response, request, cookie)
    return response


async def _by_key(services: Services, key: str) -> str | None:
    async with services.pool.connection() as connection:
        granted = await api_keys.check(connection, key)
        if granted is None:
            return None
        now = datetime.now(UTC)
        return await sessions.begin(connection, granted.shops, granted.scopes, "key", now, granted.id)


async def _by_link(services: Services, token: str) -> str | None:
    async with services.pool.connection() as connection:
        return await sessions.use_link(connection, token, datetime.now(UTC))


async def by_session_token(services: Services, token: str) -> str | None:
    """A cookie for a session token of Shopify's; None if it is not valid."""
    granted = await services.granted(Credentials(token))
    if granted is None or granted.way != "shopify":
        return None

    async def begin() -> str:
        async with services.pool.connection() as connection:
            return await sessions.begin(connection, granted.shops, granted.scopes, "shopify", datetime.now(UTC))

    return await within(KEY_SECONDS, begin())


@router.get("/language")
async def language(
    to: Annotated[str, Query(max_length=10)], after: Annotated[str, Query(alias="next", max_length=_LONGEST)] = "/"
) -> Response:
    """Remembers which language somebody reads."""
    response = RedirectResponse(inside(after), 303)
    if to in rendering.LANGUAGES:
        response.set_cookie(rendering.LANGUAGE_COOKIE, to, max_age=31_536_000, samesite="lax", httponly=True)
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Ends the session."""
    refuse_others(request)
    cookie = request.cookies.get(COOKIE, "")
    services = services_of(request)

    async def end() -> None:
        async with services.pool.connection() as connection:
            granted = await sessions.check(connection, cookie, datetime.now(UTC))
            if granted is not None:
                await sessions.revoke(connection, granted.id, datetime.now(UTC))

    await within(KEY_SECONDS, end())
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(COOKIE)
    return response
