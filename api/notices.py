"""`/v1/shops/{shop}/webhooks`: where a shop's integrators want to be told of what happens, and what became of it.

They are sent by a process of their own (notices/); here they are set, listed, replayed and tried.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from api import cursors
from api.context import AdminAccess, Caller
from api.cursors import CursorQuery
from api.models import Answer, Time
from api.problems import ProblemError, ProblemModel
from books import notices

router = APIRouter(prefix="/v1/shops/{shop}/webhooks", tags=["notices"])

Event = Literal["segment.changed", "points.posted", "points.expiring", "points.expired", "batch.done"]

EndpointPath = Annotated[UUID, Path(description="an endpoint's id, as the list has it")]
DeliveryPath = Annotated[int, Path(ge=1, le=notices.NEWEST, description="a delivery's id, as the list has it")]


class NewEndpoint(BaseModel):
    """Where to tell of what."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        max_length=notices.LONGEST_URL,
        description="https; a public address",
        examples=["https://example.com/loyalnest"],
    )
    events: list[Event] = Field(min_length=1, max_length=10, description="which events; each once is enough")


class EndpointModel(Answer):
    """An endpoint."""

    id: UUID
    url: str
    events: list[Event]
    created_at: Time = Field(description="what happened before is not told")
    failures: int = Field(description="in a row, up to now")
    rests_until: Time | None = Field(description="nothing is sent until then: too many failures in a row")
    waiting: int = Field(description="deliveries that have not arrived yet")
    dead: int = Field(description="deliveries that were given up")


class CreatedEndpoint(Answer):
    """A new endpoint. Its secret is shown here and never again."""

    id: UUID
    url: str
    events: list[Event]
    created_at: Time
    secret: str = Field(
        description="what messages are signed with", examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    )


class Endpoints(Answer):
    """A shop's endpoints, the oldest first."""

    shop: str
    endpoints: list[EndpointModel]


class Delivery(Answer):
    """A message to an endpoint, and how far it is."""

    id: str = Field(description="of this delivery", examples=["1042"])
    message: UUID = Field(description="the `webhook-id` it is sent with: the same at each attempt, and after a rebuild")
    event: str = Field(examples=["segment.changed"])
    status: Literal["waiting", "done", "dead"]
    attempts: int
    code: int | None = Field(description="the status of the last answer; null: there was none")
    error: str | None = Field(
        description="what was wrong with the last attempt: timeout, status, redirect, refused_address, unknown_host,"
        " unreachable, tls, broken_off"
    )
    created_at: Time
    due_at: Time | None = Field(description="when it is tried next; null: not any more")
    finished_at: Time | None
    body: str = Field(description="as it is sent, byte for byte")

    @classmethod
    def of(cls, found: notices.Notice) -> "Delivery":
        """From its row."""
        return cls(
            **{
                **{name: getattr(found, name) for name in cls.model_fields},
                "id": str(found.id),
                "due_at": found.due_at if found.status == "waiting" else None,
            }
        )


class Deliveries(Answer):
    """A page of an endpoint's deliveries, the newest first."""

    items: list[Delivery]
    next: str | None = Field(description="the next page's cursor; null on the last")


def _none() -> ProblemError:
    return ProblemError(404, "not-found", "There is no such endpoint, or delivery, of this shop.")


async def _check(caller: Caller, endpoint: UUID) -> None:
    async with caller.services.pool.connection() as connection:
        if not await notices.exists(connection, caller.shop, endpoint):
            raise _none()


@router.get("", summary="Who is told")
async def endpoints(caller: AdminAccess) -> Endpoints:
    """The shop's endpoints, and whether messages arrive there."""
    async with caller.services.pool.connection() as connection:
        found = await notices.listing(connection, caller.shop)
    return Endpoints(shop=caller.shop, endpoints=[EndpointModel(**each._asdict()) for each in found])


@router.post(
    "",
    summary="Be told from now on",
    status_code=201,
    responses={409: {"model": ProblemModel, "description": "the shop has ten endpoints already"}},
)
async def create(caller: AdminAccess, wanted: NewEndpoint) -> CreatedEndpoint:
    """A new endpoint with a secret of its own, at most ten of a shop. Messages are Standard Webhooks
    (standardwebhooks.com), whose libraries for most languages verify them."""
    await caller.program()
    try:
        notices.check_url(wanted.url, private=caller.services.settings.notices_private)
    except ValueError as error:
        raise ProblemError(422, "bad-url", f"That is no address to send to: {error}.") from None
    endpoint, events, now = uuid4(), sorted(set(wanted.events)), datetime.now(UTC)
    secret = await caller.services.vault.notice_secret(caller.shop, endpoint)
    if secret is None:
        raise ProblemError(409, "forgotten", "The shop has been forgotten.")
    async with caller.services.pool.connection() as connection:
        if not await notices.create(connection, endpoint, caller.shop, wanted.url, events, now):
            raise ProblemError(409, "too-many-endpoints", f"The shop has {notices.MOST} endpoints: remove one first.")
    text = notices.secret_text(secret)
    return CreatedEndpoint(id=endpoint, url=wanted.url, events=events, created_at=now, secret=text)


@router.delete("/{endpoint}", summary="Be told no more", status_code=204)
async def remove(caller: AdminAccess, endpoint: EndpointPath) -> None:
    """The endpoint goes, with all that waits for it. What is just being sent may still arrive."""
    async with caller.services.pool.connection() as connection:
        if not await notices.remove(connection, caller.shop, endpoint):
            raise _none()


@router.get("/{endpoint}/deliveries", summary="What was told, and what was not")
async def deliveries(
    caller: AdminAccess,
    endpoint: EndpointPath,
    status: Annotated[Literal["waiting", "done", "dead"] | None, Query(description="only these")] = None,
    cursor: CursorQuery = None,
    limit: Annotated[int, Query(ge=1, le=200, description="rows at most in one page")] = 50,
) -> Deliveries:
    """The newest first. Kept for 35 days."""
    before = notices.NEWEST if cursor is None else min(cursors.read(cursor, int)[0], notices.NEWEST)
    await _check(caller, endpoint)
    async with caller.services.pool.connection() as connection:
        found = await notices.deliveries(connection, endpoint, status, before, limit + 1)
    page = found[:limit]
    following = cursors.write(page[-1].id) if len(found) > limit else None
    return Deliveries(items=[Delivery.of(each) for each in page], next=following)


@router.post("/{endpoint}/deliveries/{delivery}/replay", summary="Send one again", status_code=202)
async def replay(caller: AdminAccess, endpoint: EndpointPath, delivery: DeliveryPath) -> Delivery:
    """Under its old id, so that whoever has it already can tell; for three days more. Wakes an endpoint that rests."""
    await _check(caller, endpoint)
    async with caller.services.pool.connection() as connection:
        found = await notices.replay(connection, endpoint, delivery)
    if found is None:
        raise _none()
    return Delivery.of(found)


@router.post("/{endpoint}/test", summary="Try an endpoint", status_code=202)
async def test(caller: AdminAccess, endpoint: EndpointPath) -> Delivery:
    """Sends a message of the type `test`, signed as any other, within a second. What became of it stands in the
    deliveries. An endpoint that rests is woken."""
    await _check(caller, endpoint)
    async with caller.services.pool.connection() as connection:
        return Delivery.of(await notices.test(connection, caller.shop, endpoint, datetime.now(UTC)))
