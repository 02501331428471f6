"""What the routes share: the pool, the vault, the publisher, the front door and the live hub; and who is asking."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

from fastapi import Depends, Path, Request, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.limits import KEY_SECONDS, within
from api.live.hub import LiveHub
from api.problems import ProblemError
from api.rates import Quota, count
from api.reading import Reading
from api.reading import Row as Row
from api.reading import Statement as Statement
from api.session_tokens import SessionTokens, looks_like_one
from api.slots import Slots
from api.waiting import Waiting
from api.webhooks.front_door import FrontDoor
from api.webhooks.signatures import Reader
from books import api_keys, sessions, vault
from events import instants
from events.programs import Program
from runtime.database import Pool
from runtime.ports import Publisher
from runtime.settings import Settings

if TYPE_CHECKING:
    from api.export_jobs import Exporter
    from api.imports import Importer

#: CSV exports at once in one process, and those of one shop: some are always left for the others.
EXPORTS: Final = 8
EXPORTS_OF_SHOP: Final = 3

#: The cookie of whoever is signed in on the dashboard.
COOKIE: Final = "loyalnest"

#: What a request may do with a cookie alone, which a browser sends whoever made the page that asks.
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(auto_error=False, description="An API key of the shop: `ln_...` (`loyalnest keys create`).")


def now_us() -> int:
    """Now, in microseconds since the epoch."""
    return instants.from_datetime(datetime.now(UTC))


class Services(Reading):
    """Everything that lives as long as the app."""

    def __init__(self, settings: Settings, publisher: Publisher, pool: Pool, keys: vault.Vault) -> None:
        super().__init__(settings, pool, keys)
        self.publisher = publisher
        self.bodies = Reader([secret.get_secret_value().encode() for secret in settings.shopify_secrets])
        self.session_tokens = SessionTokens(settings)
        self.front_door = FrontDoor(publisher, keys, now_us)
        #: How often one key or session may ask.
        self.key_quota = Quota("key", settings.api_key_rate) if settings.api_key_rate else None
        self.live = LiveHub(settings.database_url())
        self.waiting = Waiting(self.live, pool)
        #: Set by the app, which starts and stops them.
        self.importer: Importer
        self.exporter: Exporter
        #: CSV exports that are running now: each holds a connection for as long as its client takes.
        self.exports = Slots(EXPORTS, EXPORTS_OF_SHOP)
        #: Who announces a program keeps a connection until it is durable: never more than one of the pool's.
        self.announcing = asyncio.Lock()

    async def granted(self, credentials: "Credentials") -> api_keys.Granted | None:
        """What these allow; None if they are not valid. TimeoutError when the database does not answer in time."""
        return await within(KEY_SECONDS, self._granted(credentials))

    async def _granted(self, credentials: "Credentials") -> api_keys.Granted | None:
        if not credentials.cookie and looks_like_one(credentials.secret):
            return self.session_tokens.granted(credentials.secret, now_us())
        async with self.pool.connection() as connection:
            if credentials.cookie:
                return await sessions.check(connection, credentials.secret, datetime.now(UTC))
            return await api_keys.check(connection, credentials.secret)


def services_of(request: Request) -> Services:
    """What the app of this request works with."""
    services: Services = request.app.state.services
    return services


def _refuse_unknown(request: Request) -> None:
    """A problem (422) for a parameter that the route does not know: left out unsaid, it would answer something else."""
    taken = get_flat_params(request.scope["route"].dependant)
    # A model's fields are of no kind of their own, and all of them parameters of the query.
    others = (params.Path, params.Header, params.Cookie)
    known = {each.alias for each in taken if not isinstance(each.field_info, others)}
    if not known.issuperset(request.query_params):
        # Without their names: whoever sends an address as a parameter may have sent one as a name.
        raise ProblemError(
            422, "invalid", f"A parameter is not known here; known: {', '.join(sorted(known)) or 'none'}."
        )


class Credentials(NamedTuple):
    """What a request brings: an API key or a session token of Shopify's, or the cookie of a session."""

    secret: str
    cookie: bool = False

    @classmethod
    def of(cls, request: Request) -> "Credentials | None":
        """Of a request; None if it brings none. A key goes before a cookie."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and bearer.strip():
            return cls(bearer.strip())
        cookie = request.cookies.get(COOKIE)
        return cls(cookie, cookie=True) if cookie else None


def same_origin(request: Request) -> bool:
    """Whether our own page sent the request, as far as a browser tells: those do, whenever something may change."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", "")
    return origin.partition("://")[2] == request.headers.get("host", "")


class Caller(NamedTuple):
    """Who is asking, for a shop of theirs, and what with."""

    services: Services
    shop: str
    key: api_keys.Granted
    credentials: Credentials

    async def program(self) -> Program:
        """The shop's program; a problem (404) before it has one."""
        found = await self.services.program(self.shop)
        if found is None:
            raise ProblemError(404, "no-program", "The shop has no program yet: PUT one, or run `loyalnest shops add`.")
        return found

    async def still_allowed(self) -> bool:
        """Whether the key or session has not ended since: for answers that last."""
        return await self.services.granted(self.credentials) is not None


ShopPath = Annotated[
    str, Path(description="the shop's *.myshopify.com domain", examples=["demo.myshopify.com"], max_length=100)
]


async def caller_of(request: Request, shop: str, *scopes: str) -> Caller | None:
    """Who asks for a shop of theirs, with one of these scopes; None without valid credentials.

    A problem (403) without the scope, or for a session that another site makes use of; another shop than theirs is a
    404, whether it exists or not; 429 for who asks too often.
    """
    services = services_of(request)
    credentials = Credentials.of(request)
    granted = None if credentials is None else await services.granted(credentials)
    if credentials is None or granted is None:
        return None
    count(request, services.key_quota, granted)
    if credentials.cookie and request.method not in _SAFE and not same_origin(request):
        raise ProblemError(403, "cross-site", "A session is only taken from our own pages: send an API key.")
    whose = "sign-in" if credentials.cookie else "API key"
    if shop.lower() not in granted.shops:
        raise ProblemError(404, "no-shop", f"There is no such shop for this {whose}.")
    if granted.scopes.isdisjoint(scopes):
        raise ProblemError(403, "no-scope", f"This {whose} lacks the scope '{scopes[0]}'.")
    return Caller(services, shop.lower(), granted, credentials)


def allowed(scope: str) -> Callable[..., Awaitable[Caller]]:
    """The dependency that lets in whoever has a key of the shop with this scope.

    401 without a valid key, and as `caller_of`. 422 for a parameter that the route does not know.
    """

    async def check(
        request: Request,
        shop: ShopPath,
        _given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],  # for the OpenAPI document
    ) -> Caller:
        caller = await caller_of(request, shop, scope)
        if caller is None:
            raise ProblemError(
                401, "no-key", "Send a valid API key: Authorization: Bearer ln_...", {"WWW-Authenticate": "Bearer"}
            )
        _refuse_unknown(request)
        return caller

    return check


ReadAccess = Annotated[Caller, Depends(allowed("read"))]
ExportAccess = Annotated[Caller, Depends(allowed("export"))]
AdjustAccess = Annotated[Caller, Depends(allowed("adjust"))]
RedeemAccess = Annotated[Caller, Depends(allowed("redeem"))]
FulfilAccess = Annotated[Caller, Depends(allowed("fulfil"))]
AdminAccess = Annotated[Caller, Depends(allowed("admin"))]
