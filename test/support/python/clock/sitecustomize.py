"""Python's wall clock goes wrong by as many seconds as the file CLOCK_OFFSET_FILE says at the moment."""

import os
import time
from pathlib import Path

_offset = Path(os.environ["CLOCK_OFFSET_FILE"])
_time = time.time


def _shifted() -> float:
    return _time() + float(_offset.read_text())


time.time = _shifted
time.time_ns = lambda: int(_shifted() * 1_000_000_000)
