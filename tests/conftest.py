"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says nothing on a machine that is busy with something else; what hangs
# is ended by pytest's own timeout.
settings.register_profile("collab", deadline=None)
settings.load_profile("collab")
