"""Live updates: a change made anywhere reaches every session that shows it (docs/LIVE.md)."""

from __future__ import annotations
