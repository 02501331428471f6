"""A store's Admin API on loopback: a real HTTP server that makes discounts as Shopify does, or as it is told.

Documents and variables are checked against the part of the schema that is asked (2026-10, as its reference describes
it): a field or an argument that Shopify does not know is refused here as well.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from graphql import GraphQLError, build_schema, graphql_sync

TOKEN = "shpat_0123456789abcdef0123456789abcdef"

_INPUT = """
  title: String code: String startsAt: DateTime endsAt: DateTime usageLimit: Int appliesOncePerCustomer: Boolean
  context: DiscountContextInput minimumRequirement: DiscountMinimumRequirementInput tags: [String!]
  combinesWith: DiscountCombinesWithInput recurringCycleLimit: Int
"""
_DISCOUNT = """
  title: String! startsAt: DateTime! endsAt: DateTime usageLimit: Int appliesOncePerCustomer: Boolean!
  context: DiscountContext!
"""
SCHEMA = build_schema(f"""
scalar DateTime
scalar Decimal
type Query {{
  codeDiscountNodeByCode(code: String!): DiscountCodeNode
  product(id: ID!): Product
}}
type Mutation {{
  discountCodeBasicCreate(basicCodeDiscount: DiscountCodeBasicInput!): DiscountCodeBasicCreatePayload
  discountCodeFreeShippingCreate(freeShippingCodeDiscount: DiscountCodeFreeShippingInput!):
    DiscountCodeFreeShippingCreatePayload
  discountCodeDeactivate(id: ID!): DiscountCodeDeactivatePayload
}}
type Product {{ id: ID! title: String! priceRangeV2: ProductPriceRangeV2! }}
type ProductPriceRangeV2 {{ maxVariantPrice: MoneyV2! minVariantPrice: MoneyV2! }}
type MoneyV2 {{ amount: Decimal! }}
type DiscountCodeBasicCreatePayload {{ codeDiscountNode: DiscountCodeNode userErrors: [DiscountUserError!]! }}
type DiscountCodeFreeShippingCreatePayload {{ codeDiscountNode: DiscountCodeNode userErrors: [DiscountUserError!]! }}
type DiscountCodeDeactivatePayload {{ codeDiscountNode: DiscountCodeNode userErrors: [DiscountUserError!]! }}
type DiscountUserError {{ field: [String!] message: String! code: String }}
type DiscountCodeNode {{ id: ID! codeDiscount: DiscountCode! }}
union DiscountCode = DiscountCodeBasic | DiscountCodeFreeShipping
type DiscountCodeBasic {{ {_DISCOUNT} }}
type DiscountCodeFreeShipping {{ {_DISCOUNT} }}
union DiscountContext = DiscountCustomers | DiscountBuyerSelectionAll
type DiscountCustomers {{ customers: [Customer!]! }}
type DiscountBuyerSelectionAll {{ all: DiscountBuyerSelection! }}
type Customer {{ id: ID! }}
input DiscountCodeBasicInput {{ {_INPUT} customerGets: DiscountCustomerGetsInput }}
input DiscountCodeFreeShippingInput {{
  {_INPUT} destination: DiscountShippingDestinationSelectionInput maximumShippingPrice: Decimal
}}
enum DiscountBuyerSelection {{ ALL }}
input DiscountContextInput {{ all: DiscountBuyerSelection customers: DiscountCustomersInput }}
input DiscountCustomersInput {{ add: [ID!] remove: [ID!] }}
input DiscountCombinesWithInput {{ orderDiscounts: Boolean productDiscounts: Boolean shippingDiscounts: Boolean }}
input DiscountMinimumRequirementInput {{ subtotal: DiscountMinimumSubtotalInput }}
input DiscountMinimumSubtotalInput {{ greaterThanOrEqualToSubtotal: Decimal }}
input DiscountCustomerGetsInput {{ value: DiscountCustomerGetsValueInput items: DiscountItemsInput }}
input DiscountCustomerGetsValueInput {{ percentage: Float discountAmount: DiscountAmountInput }}
input DiscountAmountInput {{ amount: Decimal appliesOnEachItem: Boolean }}
input DiscountItemsInput {{ all: Boolean products: DiscountProductsInput }}
input DiscountProductsInput {{ productsToAdd: [ID!] }}
input DiscountShippingDestinationSelectionInput {{ all: Boolean }}
""")

#: What a question may be met with, once: `ok`; `slow` (answered after a second and a half, if anybody still listens);
#: a status, or `drop` (the connection is cut), each before or `after it worked`; `throttled`; `denied`; `garbage`.
Way = str


class Asked(NamedTuple):
    """One question that reached the server, answered or not."""

    at: float
    path: str
    headers: dict[str, str]
    document: str
    variables: dict[str, Any]


class Store:
    """The store: its discounts, by code in upper case; and how it answers (`ways`, one by one, then `always`)."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self.discounts: dict[str, dict[str, Any]] = {}
        self.asked: list[Asked] = []
        self.ways: deque[Way] = deque()
        self.always: Way = "ok"
        self.retry_after = "2.0"
        self.strangers: set[str] = set()
        self.errors: list[dict[str, Any]] = []
        self.prices = {"gid://shopify/Product/11": "24.50"}
        #: The bucket of points; each question takes 10.
        self.most = self.available = 1000.0
        self.restored = 100.0
        self._filled_at = time.monotonic()

    def url(self, path: str = "/admin/api/2026-10/graphql.json") -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    def mutations(self) -> list[Asked]:
        return [each for each in self.asked if "mutation" in each.document]

    def have(self, code: str, title: str, customers: list[str], ends_at: str | None = None) -> None:
        """A discount that is there already."""
        found = {"title": title, "context": {"customers": {"add": customers}}, "endsAt": ends_at, "code": code}
        self.discounts[code.upper()] = {"type": "DiscountCodeBasic", "input": found}

    # --- what the schema asks for --------------------------------------------------------------------------------

    def product(self, _: Any, id: str) -> Any:  # noqa: A002 (Shopify's name)
        amount = self.prices.get(id)
        return amount and {"id": id, "priceRangeV2": {"maxVariantPrice": {"amount": amount}}}

    def codeDiscountNodeByCode(self, _: Any, code: str) -> Any:  # noqa: N802
        found = self.discounts.get(code.upper())
        return found and _node(found)

    def discountCodeBasicCreate(self, _: Any, basicCodeDiscount: dict[str, Any]) -> Any:  # noqa: N802, N803
        return self._create("DiscountCodeBasic", "basicCodeDiscount", basicCodeDiscount)

    def discountCodeFreeShippingCreate(self, _: Any, freeShippingCodeDiscount: dict[str, Any]) -> Any:  # noqa: N802, N803
        return self._create("DiscountCodeFreeShipping", "freeShippingCodeDiscount", freeShippingCodeDiscount)

    def discountCodeDeactivate(self, _: Any, id: str) -> Any:  # noqa: A002, N802
        found = next((each for each in self.discounts.values() if _node(each)["id"] == id), None)
        errors = list(self.errors) if found else [_error("INVALID", "id")]
        if found is None or errors:
            return {"codeDiscountNode": None, "userErrors": errors}
        found["withdrawn"] = True
        return {"codeDiscountNode": _node(found), "userErrors": []}

    def withdrawn(self) -> list[str]:
        """The codes of discounts that were deactivated."""
        return [code for code, each in self.discounts.items() if each.get("withdrawn")]

    def _create(self, type_: str, argument: str, told: dict[str, Any]) -> Any:
        errors = list(self.errors)
        for each in told["context"]["customers"]["add"]:
            if each in self.strangers:
                errors.append(_error("INVALID", argument, "context", "customers", "add"))
        if told["code"].upper() in self.discounts:
            errors.append(_error("TAKEN", argument, "code"))
        if errors:
            return {"codeDiscountNode": None, "userErrors": errors}
        found = {"type": type_, "input": told}
        self.discounts[told["code"].upper()] = found
        return {"codeDiscountNode": _node(found), "userErrors": []}

    # --- answers -------------------------------------------------------------------------------------------------

    def answer(self, asked: Asked) -> tuple[int, dict[str, str], Any] | None:
        """Status, headers and body of an answer; None to cut the connection."""
        with self._lock:
            self.asked.append(asked)
            way = self.ways.popleft() if self.ways else self.always
            if asked.headers.get("x-shopify-access-token") != TOKEN:
                way = "401"
            before, after, _ = way.partition(" after it worked")
            if before in ("ok", "slow") or after:
                status, headers, body = self._work(asked)
            else:
                status, headers, body = 200, {}, None
        if before == "slow":
            time.sleep(1.5)
        if before == "drop":
            return None
        if before == "throttled":
            return 200, {}, self._throttled()
        if before == "denied":
            denied = {"message": "Access denied", "extensions": {"code": "ACCESS_DENIED"}, "path": ["x"]}
            return 200, {}, {"errors": [denied], "data": None}
        if before == "garbage":
            return 200, {}, ["no", "answer"]
        if before.isdecimal():
            return int(before), {"Retry-After": self.retry_after} if before == "429" else {}, {"errors": "x"}
        return status, headers, body

    def _work(self, asked: Asked) -> tuple[int, dict[str, str], Any]:
        now = time.monotonic()
        self.available = min(self.most, self.available + (now - self._filled_at) * self.restored)
        self._filled_at = now
        if self.available < 10:
            return 200, {}, self._throttled()
        self.available -= 10
        done = graphql_sync(SCHEMA, asked.document, self, variable_values=asked.variables)
        answer: dict[str, Any] = {"data": done.data, "extensions": self._cost(10)}
        if done.errors:
            answer = {"errors": [_shown(each) for each in done.errors], **answer}
        return 200, {}, answer

    def _throttled(self) -> Any:
        error = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}
        return {"errors": [error], "extensions": self._cost(None)}

    def _cost(self, actual: int | None) -> Any:
        status = {"maximumAvailable": self.most, "currentlyAvailable": int(self.available)}
        return {
            "cost": {
                "requestedQueryCost": 10,
                "actualQueryCost": actual,
                "throttleStatus": {**status, "restoreRate": self.restored},
            }
        }


def _node(found: dict[str, Any]) -> dict[str, Any]:
    told = found["input"]
    customers = [{"id": each} for each in told["context"]["customers"]["add"]]
    context = {"__typename": "DiscountCustomers", "customers": customers}
    discount = {**told, "__typename": found["type"], "context": context}
    return {"id": f"gid://shopify/DiscountCodeNode/{told['code']}", "codeDiscount": discount}


def _error(code: str, *field: str) -> dict[str, Any]:
    return {"field": list(field), "message": f"{field[-1]} is wrong", "code": code}


def _shown(error: GraphQLError) -> dict[str, Any]:
    code = "INVALID_VARIABLE" if error.message.startswith("Variable ") else "undefinedField"
    return {"message": error.message, "extensions": {"code": code}}


@contextmanager
def store() -> Iterator[Store]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            headers = {k.lower(): v for k, v in self.headers.items()}
            asked = Asked(time.monotonic(), self.path, headers, body["query"], body["variables"])
            answer = made.answer(asked)
            if answer is None:
                self.close_connection = True
                return
            status, more, told = answer
            data = json.dumps(told).encode()
            self.send_response(status)
            for name, value in {**more, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # whoever asked has gone
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Store(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
