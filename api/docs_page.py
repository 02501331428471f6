"""`/docs`: the API's description as a page, under a policy that lets in its own script and no other."""

import base64
import re
from hashlib import sha256

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

_POLICY = (
    "default-src 'none'; script-src 'self' {hashes}; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def install(app: FastAPI) -> None:
    """Adds the page; its files are those of fastapi-offline, which the app serves already."""

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} - API",
            swagger_js_url=f"{root}/static-offline-docs/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/static-offline-docs/swagger-ui.css",
            swagger_favicon_url=f"{root}/static/nest.svg",
        )
        body = bytes(page.body)
        digests = [base64.b64encode(sha256(each).digest()).decode() for each in _INLINE.findall(body)]
        policy = _POLICY.format(hashes=" ".join(f"'sha256-{each}'" for each in digests))
        return HTMLResponse(body, headers={"Content-Security-Policy": policy, "Referrer-Policy": "same-origin"})
