"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

import django_site  # noqa: F401  # before any test module imports a model

# No folder of found examples in the checkout, and no deadline on a machine that does other things too.
settings.register_profile("bridgehead", database=None, deadline=None)
settings.load_profile("bridgehead")
