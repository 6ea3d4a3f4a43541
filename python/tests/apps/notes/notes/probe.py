"""Appends what happened, a JSON line each, to the file that the test reads."""

import json
import os
from pathlib import Path

from bridgehead import counters, events


def write(kind: str, **facts) -> None:
    line = json.dumps({"kind": kind, **facts}, default=str) + "\n"
    with Path(os.environ["TEST_PROBE"]).open("a", encoding="utf-8") as file:
        file.write(line)


def is_released(label: str) -> bool:
    """Whether the test lets the handler of this label go on."""
    return Path(f"{os.environ['TEST_PROBE']}.{label}").exists()


def report(finished: events.EventReport) -> None:
    write(
        "report",
        event=finished.event.rpartition(".")[2],
        state=finished.event.rpartition(".")[0].rpartition(".")[2],
        origin=finished.origin,
        tier=finished.tier,
        source=finished.source,
        raised=finished.raised,
        annotation=finished.annotation,
        shadow=finished.shadow and [finished.shadow.tier, finished.shadow.source],
        queries=finished.queries,
        counters=counters.snapshot(),
    )


events.subscribe(report)
