"""What holds for all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

# How long an example takes says nothing on a machine that is busy with something else; what hangs
# is ended by pytest's own timeout.
settings.register_profile("collab", deadline=None)
settings.load_profile("collab")

# Who starts the tests in the background ignores Ctrl-C for all their programs, some of which are
# tested with it. A handler of one's own is not handed down.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
