"""The OpenAPI document as a promise: what it allows and what it does not is tried, and each answer is one it names."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, settings

from books import api_keys
from tests.integration.api_world import SECRETS, SHOP, World, opened, sign


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        running.customer("207119551")
        running.services.live.close()  # a live stream then ends at once instead of never
        yield running


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """Every request comes with Shopify's signature of its body."""

    def signing(request: requests.PreparedRequest) -> requests.PreparedRequest:
        raw = request.body.encode() if isinstance(request.body, str) else request.body
        if isinstance(raw, bytes) and "x-shopify-hmac-sha256" in request.headers:
            request.headers["X-Shopify-Hmac-Sha256"] = sign(raw, SECRETS[0])
        return request

    with requests.Session() as made:
        made.trust_env = False
        made.auth = signing
        yield made


class Key:
    """A key of the shop that may do anything, where the case is not about having none."""

    now = ""

    def get(self, case: Any, context: Any) -> str:
        return self.now

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": data}


# In parts, each with a test's time of its own and a world of its own: all operations in one took a minute on a machine
# that was idle, and ran out of time on one that was not.
PARTS = 10


@pytest.mark.slow
# Not the strategies': psycopg's pool draws the age of each new connection, in the server's thread, which is ours.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("part", range(PARTS))
def test_every_answer_is_one_that_the_document_names(
    world: World, session: requests.Session, subtests: pytest.Subtests, part: int
) -> None:
    # Here, not above: to collect this test, every process of the tests would take seconds.
    import schemathesis
    from schemathesis.checks import load_all_checks
    from schemathesis.core.result import Ok
    from schemathesis.pytest.lazy import get_all_tests
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    # Left out is one check, that what the document allows is also taken: a cursor is nobody's business but ours, and of
    # a program's rules, currency and zone no schema can say which may follow those there are.
    def check(case: Any) -> None:
        if case.path_parameters and "shop" in case.path_parameters:
            case.path_parameters["shop"] = SHOP
        url = str(world.client.base_url)
        case.call_and_validate(base_url=url, session=session, timeout=30, excluded_checks=[positive_data_acceptance])

    load_all_checks()
    Key.now = world.key(*api_keys.SCOPES)["Authorization"]
    document = world.app.openapi()
    names = [f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods]
    # The others of them are left out beforehand: to prepare them all takes longer than to try those of this part.
    promised = schemathesis.openapi.from_dict(document).include(name=names[part::PARTS])
    promised.auth(refresh_interval=None)(Key)
    how = settings(
        max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
    )
    operations = list(get_all_tests(schema=promised, test_func=check, settings=how, given_kwargs={}))
    assert len(operations) == len(names[part::PARTS])
    for found in operations:
        assert isinstance(found, Ok), found
        operation, test = found.ok()
        with subtests.test(operation.label):
            test()
