"""The package's own tests, which need no browser, and its types."""

from __future__ import annotations

import pytest

from tests.browser.site import PACKAGE
from tests.npm import run


def test_the_package_is_typed() -> None:
    run(PACKAGE, "npm", "run", "--silent", "check")


@pytest.mark.timeout(600)
def test_the_packages_own_tests_pass_in_node() -> None:
    run(PACKAGE, "node", "test/run.mjs")
