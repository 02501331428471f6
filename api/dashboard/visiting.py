"""Who looks at a page of a shop, and what they may do there."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request
from fastapi.responses import Response

from api.context import Caller, ShopPath, caller_of
from api.dashboard import rendering
from api.dashboard.looks import Looks
from events.programs import PROSPECTS, Program


class SignInError(Exception):
    """Whoever asks for a page has to sign in first."""


class Visitor(NamedTuple):
    """Who looks at a page of a shop, and what every page of it needs to know."""

    request: Request
    caller: Caller
    program: Program

    @property
    def shop(self) -> str:
        """The shop that is looked at."""
        return self.caller.shop

    @property
    def base(self) -> str:
        """Where the shop's pages are."""
        return f"/shops/{self.shop}"

    def page(self, template: str, **values: Any) -> Response:
        """A page of this shop."""
        embedded = self.caller.key.way == "shopify"
        ancestors = f"https://{self.shop} https://admin.shopify.com" if embedded else "'none'"
        return rendering.page(
            self.request,
            template,
            zone=self.program.zone,
            locale=self.program.locale,
            ancestors=ancestors,
            shop=self.shop,
            base=self.base,
            shops=self.caller.key.shops,
            scopes=self.caller.key.scopes,
            program=self.program,
            looks=Looks(self.program),
            prospects=PROSPECTS,
            **values,
        )


def visiting(*scopes: str) -> Callable[..., Awaitable[Visitor]]:
    """The dependency of a page for who has one of these scopes: SignInError for who is not signed in; problems as the
    API has them."""

    async def visit(request: Request, shop: ShopPath) -> Visitor:
        caller = await caller_of(request, shop, *scopes)
        if caller is None:
            raise SignInError
        return Visitor(request, caller, await caller.program())

    return visit


Visit = Annotated[Visitor, Depends(visiting("read"))]
ExportVisit = Annotated[Visitor, Depends(visiting("export", "read"))]
AdjustVisit = Annotated[Visitor, Depends(visiting("adjust"))]
RedeemVisit = Annotated[Visitor, Depends(visiting("redeem"))]
FulfilVisit = Annotated[Visitor, Depends(visiting("fulfil"))]
AdminVisit = Annotated[Visitor, Depends(visiting("admin"))]
