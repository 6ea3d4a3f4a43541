"""Uploads carry their annotation in a header, which must not reach `raw_headers`, from where browsers could read it."""

from __future__ import annotations

from typing import Any

from bridgehead import arrival
from bridgehead.arrival import Arrival


class AnnotationHeader:
    """ASGI middleware: takes our header off every request and, on the upload route, carries it to the event."""

    def __init__(self, app: Any, upload_path: str) -> None:
        self._app = app
        self._upload_path = upload_path.rstrip("/")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers, values = arrival.without_annotation(scope["headers"])
        if len(headers) != len(scope["headers"]):
            scope = {**scope, "headers": headers}
        if not self._is_upload(scope):
            await self._app(scope, receive, send)
            return
        cookies = [value for name, value in headers if name.lower() == b"cookie"]
        came = Arrival(
            "upload",
            # More than one header is nobody's honest work: the text below is malformed by its comma.
            b",".join(values).decode("latin-1") if values else None,
            cookie=b"; ".join(cookies).decode("latin-1") if cookies else None,
        )
        reset = arrival.current.set(came)
        try:
            await self._app(scope, receive, send)
        finally:
            arrival.current.reset(reset)

    def _is_upload(self, scope: Any) -> bool:
        if scope["type"] != "http" or scope["method"] != "POST":
            return False
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        return path.rstrip("/") == self._upload_path
