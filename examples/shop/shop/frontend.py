"""Lets the worker serve an exported frontend itself, so that the demo needs no web server of its own."""

from reflex.app import ASGIApp
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles


def serve_frontend(folder: str):
    """An `api_transformer`: what Reflex does not answer is looked for in `folder` (its 404.html for the rest)."""

    def transform(api: ASGIApp) -> ASGIApp:
        if isinstance(api, Starlette):
            api.routes.append(Mount("/", StaticFiles(directory=folder, html=True), name="frontend"))
        return api

    return transform
