import reflex as rx
from reflex_base.event import Event
from reflex_django.bridge.context import current_event_tier, current_request, current_user
from reflex_django.state.model_state import ModelState

from bridgehead import handover
from notes import needs, people, probe
from notes.models import Note


class Panic(BaseException):
    """As those of Rust extensions, which are no `Exception`."""


class Probing(rx.State, mixin=True):
    """Every handler writes down what reflex-django did for its event."""

    last: str = ""

    def _write(self, label: str) -> None:
        request = current_request()
        self.last = label
        probe.write(
            "handler",
            label=label,
            tier=current_event_tier(),
            has_request=request is not None,
            full_chain=getattr(request, "full_chain", False),
            user=current_user().get_username(),
            handed_over=handover.current_note().user,
            headers=dict(self.router.headers.raw_headers),
            router_data=dict(self.router_data),
        )

    @rx.event
    def mixed_in(self, label: str):
        self._write(label)


class PlainState(Probing, rx.State):
    _rx_bridge = "none"

    @rx.event
    def look(self, label: str):
        self._write(label)

    @rx.event
    def panic(self, label: str):
        self._write(label)
        raise Panic

    @rx.event
    def by_resolver(self, label: str):
        self._write(label)

    @rx.event
    def by_broken_resolver(self, label: str):
        self._write(label)


class MemberState(Probing, rx.State):
    _rx_bridge = "auth_only"

    @rx.event
    def look(self, label: str):
        self._write(label)

    @rx.event
    def chain(self, label: str):
        self._write(label)
        yield PlainState.look(label + "-1")
        yield FullState.look(label + "-2")

    @rx.event
    def replay(self, label: str):
        """Makes an event by hand, with what only a sidecar may put into it."""
        self._write(label)
        router_data = {"_bridgehead": "v1.AAAAAAAA.made-in-python.AAAA", "pathname": "/"}
        name = f"{PlainState.get_full_name()}.look"
        yield Event(name=name, payload={"label": f"{label}-1"}, router_data=router_data)

    @rx.event
    def loaded(self):
        self._write("loaded")


class FullState(Probing, rx.State):
    @rx.event
    def look(self, label: str):
        self._write(label)

    @rx.event(background=True)
    async def behind(self, label: str):
        async with self:
            self._write(label)
        yield PlainState.look(label + "-1")


class ChildState(PlainState):
    """Inherits from a state: its own handlers are its own, the parent's stay the parent's."""

    @rx.event
    def look_deeper(self, label: str):
        self._write(label)


class PictureState(Probing, rx.State):
    _rx_bridge = "none"
    names: list[str] = []

    @rx.event
    async def take(self, files: list[rx.UploadFile]):
        self._write("take")
        for file in files:
            self.names.append(f"{file.filename}:{len(await file.read())}")
        yield PlainState.look("after-take")


class NoteState(ModelState[Note]):
    fields = ["title"]

    @rx.event
    def options(self, label: str):
        options = self.get_options()
        probe.write("handler", label=label, options=type(options).__name__, model=options.model.__name__)


def index() -> rx.Component:
    return rx.box(rx.upload(id="pictures"), rx.text(PlainState.last))


# Their states are registered by being imported.
PEOPLE, NEEDS = people.PeopleState, needs.NeedsState

app = rx.App()
app.add_page(index, route="/")
app.add_page(index, route="/loading", on_load=MemberState.loaded)
app.add_page(index, route="/item/[number]")
