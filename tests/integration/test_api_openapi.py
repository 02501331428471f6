"""The OpenAPI document as a promise: what it allows and what it does not is tried, and each answer is one it names."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.app import create_app
from books import api_keys
from runtime.settings import Settings
from tests.integration.api_world import MASTER, SECRETS, SHOP, Remembering, World, opened, sign

# Left out is one check, that what the document allows is also taken: a cursor is nobody's business but ours, and of a
# program's rules, currency and zone no schema can say which may follow those there are.
_SETTINGS = Settings(
    database=SecretStr("postgresql://nobody@127.0.0.1:9/none"), master_key=SecretStr(base64.b64encode(MASTER).decode())
)
SCHEMA = schemathesis.openapi.from_dict(create_app(_SETTINGS, Remembering()).openapi())


@SCHEMA.auth(refresh_interval=None)
class Key:
    """A key of the shop that may do anything, where the case is not about having none."""

    now = ""

    def get(self, case: Any, context: Any) -> str:
        return self.now

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": data}


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        running.customer("207119551")
        running.services.live.close()  # a live stream then ends at once instead of never
        yield running


@pytest.fixture
def session(world: World) -> Iterator[requests.Session]:
    """Every request comes with Shopify's signature of its body."""
    Key.now = world.key(*api_keys.SCOPES)["Authorization"]

    def signing(request: requests.PreparedRequest) -> requests.PreparedRequest:
        raw = request.body.encode() if isinstance(request.body, str) else request.body
        if isinstance(raw, bytes) and "x-shopify-hmac-sha256" in request.headers:
            request.headers["X-Shopify-Hmac-Sha256"] = sign(raw, SECRETS[0])
        return request

    with requests.Session() as made:
        made.trust_env = False
        made.auth = signing
        yield made


@SCHEMA.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
def test_every_answer_is_one_that_the_document_names(case: Any, world: World, session: requests.Session) -> None:
    if case.path_parameters and "shop" in case.path_parameters:
        case.path_parameters["shop"] = SHOP
    url = str(world.client.base_url)
    case.call_and_validate(base_url=url, session=session, timeout=30, excluded_checks=[positive_data_acceptance])
