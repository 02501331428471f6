"""The dashboard's pages. Each asks what the API answers, by the API's own functions, so that the two cannot differ."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, get_args
from zoneinfo import ZoneInfo, available_timezones

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from psycopg import sql

from api import (
    batches,
    cohorts,
    customers,
    dead_letters,
    export_jobs,
    imports,
    lag,
    notices,
    presets,
    products,
    questions,
    rewards,
    segments,
)
from api import movement as moving
from api import program as program_routes
from api.context import Credentials, services_of
from api.dashboard import charts, grid, rendering, signing_in
from api.dashboard.visiting import AdminVisit, ExportVisit, Visit, Visitor
from api.limits import READ_SECONDS, within
from api.models import FIRST_DAY
from api.problems import ProblemError, problem_of
from books import api_keys, sessions
from events import instants
from events.programs import PROSPECTS, Program, Weekday, local_midnight, rewards_from
from lake.errors import BehindError

router = APIRouter(include_in_schema=False)

#: Customers of one page, and entries of one list.
_PAGE: Final = 50

#: Deliveries of each endpoint that its page shows.
_SENT: Final = 20

#: A side of the movement: a segment's name; empty for those who were not known; none for any.
_Side = Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")]

_LAST_RUNS: Final = sql.SQL("""
SELECT as_of, finished_at, status, published FROM batch_runs WHERE shop = %(shop)s ORDER BY started_at DESC LIMIT 1
""")


#: What a new shop has done of what there is to do.
_STEPS: Final = sql.SQL("""
SELECT EXISTS (SELECT FROM raw_events WHERE shop = %(shop)s) AS webhooks,
       EXISTS (SELECT FROM imports WHERE shop = %(shop)s AND status = 'done') AS past,
       EXISTS (SELECT FROM batch_runs WHERE shop = %(shop)s AND status = 'done') AS batch,
       EXISTS (SELECT FROM product_rfm WHERE shop = %(shop)s) AS analysts,
       EXISTS (SELECT FROM exports WHERE shop = %(shop)s AND status = 'done') AS export
""")


@router.get("/")
async def home(
    request: Request,
    id_token: Annotated[str, Query(max_length=4000)] = "",
) -> Response:
    """To the shop of who is signed in; inside Shopify's admin, to that of its session token."""
    if id_token:
        cookie = await signing_in.by_session_token(services_of(request), id_token)
        if cookie is None:
            raise ProblemError(401, "no-session-token", "The session token is not valid: open the app again.")
        granted = await services_of(request).granted(Credentials(cookie, cookie=True))
        assert granted is not None
        response = RedirectResponse(_begins_at(granted), 303)
        signing_in.put_cookie(response, request, cookie, embedded=True)
        return response
    granted = await signing_in.signed_in(request)
    if granted is None:
        return RedirectResponse("/sign-in", 303)
    return RedirectResponse(_begins_at(granted), 303)


def _begins_at(granted: api_keys.Granted) -> str:
    """The first page that somebody may see."""
    exports_alone = "export" in granted.scopes and "read" not in granted.scopes
    return f"/shops/{granted.shops[0]}" + ("/exports" if exports_alone else "")


@router.get("/shops/{shop}")
async def overview(visitor: Visit) -> Response:
    """Who the customers are by value, what was issued, how fresh this is."""
    told = await segments.segments(visitor.caller)
    run = await visitor.caller.services.row(_LAST_RUNS, {"shop": visitor.shop})
    by_name = {each.segment: each for each in told.segments}
    return visitor.page(
        "overview.html",
        told=told,
        active=told.customers - (by_name[PROSPECTS].customers if PROSPECTS in by_name else 0),
        points=_points(told),
        by_name=by_name,
        tiles=grid.tiles(visitor.program.grid),
        run=run,
        chart_styles=charts.styles(),
        yesterday=_yesterday(visitor.program),
    )


def _beginning(visitor: Visitor, day: date | None) -> datetime | None:
    """The instant at which a day begins in the shop's zone; a problem (422) for one that no answer is of: whoever types
    a year passes those of its first digits."""
    if day is None:
        return None
    zone = ZoneInfo(visitor.program.zone)
    if not FIRST_DAY <= day <= datetime.now(zone).date():
        raise ProblemError(422, "bad-time", "A day from 1970 on that has begun.")
    return instants.to_datetime(local_midnight(day, zone))


@router.get("/shops/{shop}/parts/segments")
async def segments_part(visitor: Visit) -> Response:
    """The part of the overview that has the segments as a table."""
    told = await segments.segments(visitor.caller)
    return visitor.page("parts/segments.html", told=told, points=_points(told))


def _points(told: segments.Segments) -> int:
    return sum(each.points_balance for each in told.segments)


@router.get("/shops/{shop}/parts/movement")
async def movement(
    visitor: Visit,
    since: Annotated[date | None, Query()] = None,
    segment: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """The part of the overview that tells who moved; of a segment's page, who came and went."""
    try:
        told = await moving.movement(visitor.caller, from_=_beginning(visitor, since))
    except ProblemError as problem:
        if problem.status not in (404, 422, 503):
            raise
        return visitor.page("parts/nothing.html", problem=problem)
    if segment is not None:
        came = [each for each in told.moves if each.current == segment != each.previous]
        went = [each for each in told.moves if each.previous == segment != each.current]
        return visitor.page("parts/came_and_went.html", told=told, came=came, went=went, since=since)
    pairs = {(each.previous, each.current): each for each in told.moves}
    moved = sorted(
        (each for each in told.moves if each.previous != each.current),
        key=lambda each: -each.customers,
    )
    return visitor.page("parts/movement.html", told=told, pairs=pairs, moved=moved, since=since)


@router.get("/shops/{shop}/movement")
async def movers(
    visitor: Visit,
    previous: _Side = None,
    current: _Side = None,
    since: Annotated[date | None, Query()] = None,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    """Who stands behind a number of the movement: the people of a segment then and of one now."""
    told = await moving.movers(visitor.caller, _beginning(visitor, since), None, previous, current, cursor, _PAGE)
    return visitor.page("movers.html", told=told, previous=previous, current=current, since=since)


@router.get("/shops/{shop}/parts/cohorts")
async def cohorts_part(visitor: Visit) -> Response:
    """The part of the overview that tells who came back."""
    try:
        told = await cohorts.lately(visitor.caller)
    except BehindError as error:
        return visitor.page("parts/nothing.html", problem=problem_of(error))
    return visitor.page("parts/cohorts.html", told=told, shown=told.cohorts[-12:])


@router.get("/shops/{shop}/segments/{segment:path}")
async def segment(
    visitor: Visit,
    segment: str,
    sort: customers.Sort = "-monetary",
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    """A segment: what it means, its people, where they came from and went."""
    told = await segments.segments(visitor.caller)
    found = next((each for each in told.segments if each.segment == segment), None)
    known = {*segments.order_of(visitor.program)}
    if found is None and segment not in known:
        raise ProblemError(404, "no-segment", "The shop has no such segment.")
    people = await customers.customers(visitor.caller, segment, sort, cursor, _PAGE)
    cells = [
        (5 - row, 5 - column)
        for row, names in enumerate(visitor.program.grid)
        for column, name in enumerate(names)
        if name == segment
    ]
    return visitor.page(
        "segment.html",
        segment=segment,
        found=found,
        people=people,
        sort=sort,
        cells=cells,
        yesterday=_yesterday(visitor.program),
    )


def _yesterday(program: Program) -> date:
    return datetime.now(ZoneInfo(program.zone)).date() - timedelta(days=1)


@router.post("/shops/{shop}/customers")
async def find_customer(visitor: Visit, asked: Annotated[str, Form(alias="who", max_length=320)] = "") -> Response:
    """To a customer, by id or exact address; a form's body, because addresses in a URL end in logs."""
    wanted = asked.strip().lstrip("'#")
    if "@" in wanted:
        found = await customers.find_by_address(visitor.caller, customers.Address(email=wanted))
        return RedirectResponse(f"/shops/{visitor.shop}/customers/{found.customer_id}", 303)
    if not wanted:
        return RedirectResponse(f"/shops/{visitor.shop}", 303)
    if not wanted.isascii() or not wanted.replace("mail-", "", 1).isalnum():
        raise ProblemError(404, "no-customer", "A customer's id is a number, as Shopify's admin shows it.")
    return RedirectResponse(f"/shops/{visitor.shop}/customers/{wanted}", 303)


@router.get("/shops/{shop}/products")
async def products_page(
    visitor: Visit,
    sort: products.Sort = "-monetary",
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    """What sells, to whom, and who comes back for it."""
    told = await products.products(visitor.caller, sort, False, cursor, _PAGE)
    return visitor.page("products.html", told=told, sort=sort)


@router.get("/shops/{shop}/exports")
async def exports_page(visitor: ExportVisit, segment: Annotated[str, Query(max_length=100)] = "") -> Response:
    """A file for marketing: who stands in it, and for which system it is."""
    names = list(segments.order_of(visitor.program))
    may_look = "admin" in visitor.caller.key.scopes
    made = (await export_jobs.get_exports(visitor.caller)).exports[:_PAGE] if may_look else []
    return visitor.page(
        "exports.html",
        names=names,
        chosen=segment,
        columns=questions.COLUMNS,
        presets=get_args(presets.Name),
        made=made,
        now=datetime.now(UTC),
    )


@router.get("/shops/{shop}/notices")
async def notices_page(visitor: AdminVisit) -> Response:
    """Who is told of segment changes, points and batches, and what has not arrived."""
    found = (await notices.endpoints(visitor.caller)).endpoints
    sent = {each.id: (await notices.deliveries(visitor.caller, each.id, None, None, _SENT)).items for each in found}
    return visitor.page("notices.html", endpoints=found, sent=sent, events=get_args(notices.Event))


@router.get("/shops/{shop}/system")
async def system(visitor: Visit) -> Response:
    """How far the stream is behind, batch runs with their gates, and for who may what went wrong and who is here."""
    told = await batches.batch_runs(visitor.caller, 20)
    behind = await lag.lag(visitor.caller)
    may_replay = "admin" in visitor.caller.key.scopes
    letters = (await dead_letters.all_letters(visitor.caller, False, _PAGE)).letters if may_replay else []
    brought = (await imports.get_imports(visitor.caller)).imports if may_replay else []
    signed_in = await within(READ_SECONDS, _signed_in(visitor)) if may_replay else []
    own = visitor.caller.key.id
    many = {"letters": letters, "imports": brought, "signed_in": signed_in}
    return visitor.page("system.html", told=told, behind=behind, own=own, **many)


async def _signed_in(visitor: Visitor) -> list[sessions.Session]:
    async with visitor.caller.services.pool.connection() as connection:
        return await sessions.listing(connection, visitor.shop, datetime.now(UTC))


@router.post("/shops/{shop}/sessions/{session}/end")
async def end_session(visitor: AdminVisit, session: str) -> Response:
    """Signs somebody out, from their next request on."""

    async def end() -> bool:
        async with visitor.caller.services.pool.connection() as connection:
            return await sessions.revoke(connection, session, datetime.now(UTC), visitor.shop)

    if not await within(READ_SECONDS, end()):
        raise ProblemError(404, "not-found", "There is no such session of this shop.")
    return RedirectResponse(f"/shops/{visitor.shop}/system", 303)


@router.get("/shops/{shop}/program")
async def program_page(visitor: Visit) -> Response:
    """Rules, rewards, look-back, grid and names, zone, schedule: as they are, and to be changed by who may."""
    current = await visitor.caller.program()
    now = instants.from_datetime(datetime.now(UTC))
    listed = rewards_from(current, now)
    return visitor.page(
        "program.html",
        current=current.model_dump(mode="json"),
        etag=program_routes.etag(current),
        versions=_changes((await program_routes.program_versions(visitor.caller, _PAGE)).versions),
        zones=sorted(available_timezones()),
        locales=rendering.locale_tags(),
        weekdays=get_args(Weekday),
        rewards=[(each, rewards.told_of(each, current, None), each.since <= now) for each in listed],
    )


def _changes(versions: list[program_routes.ProgramVersion]) -> list[tuple[datetime, dict[str, Any]]]:
    """When each version was announced, and what it says that the one before did not; of the oldest all it says."""
    said = [each.program.model_dump(mode="json", exclude={"announced_at", "id", "shop"}) for each in versions]
    before: list[dict[str, Any]] = [*said[1:], {}][: len(said)]
    return [
        (each.announced_at, {name: now[name] for name in now if name not in then or then[name] != now[name]})
        for each, now, then in zip(versions, said, before, strict=True)
    ]


@router.get("/shops/{shop}/start")
async def start(visitor: Visit) -> Response:
    """What there is to do for a new shop, ticking itself off."""
    done = await visitor.caller.services.row(_STEPS, {"shop": visitor.shop})
    assert done is not None
    return visitor.page("start.html", done=done, address=str(visitor.request.base_url).rstrip("/"))
