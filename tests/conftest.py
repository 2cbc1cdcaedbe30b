"""What all tests share: the rule for live tests, and how many inputs property tests try."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.fuzzing import EXAMPLES, FUZZ_TIMES
from tests.live.daemon import missing_programs

_LIVE_PROGRAMS = ("sipp", "baresip", "tcpdump", "tshark", "editcap")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz", action="store_true", help=f"property tests alone, with {FUZZ_TIMES} times their inputs"
    )
    parser.addoption("--thorough", action="store_true", help="tests in their long forms (make test-faults)")


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether the long forms run."""
    return bool(pytestconfig.getoption("--thorough"))


def pytest_configure(config: pytest.Config) -> None:
    """A shared machine stalls now and then: no deadline for a single example."""
    slow = [HealthCheck.too_slow]
    settings.register_profile("test", max_examples=EXAMPLES, deadline=None, suppress_health_check=slow)
    settings.register_profile(
        "fuzz", max_examples=EXAMPLES * FUZZ_TIMES, deadline=None, suppress_health_check=slow
    )
    settings.load_profile("fuzz" if config.getoption("--fuzz") else "test")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Live tests need root for the tap, and the programs of Debian; `make setup` as root installs them."""
    if config.getoption("--fuzz"):
        kept = [item for item in items if getattr(getattr(item, "obj", None), "is_hypothesis_test", False)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    missing = missing_programs(*_LIVE_PROGRAMS)
    reason = f"needs {', '.join(missing)}" if missing else "needs root" if os.geteuid() else None
    if reason is None:
        return
    for item in items:
        if item.get_closest_marker("live"):
            item.add_marker(pytest.mark.skip(reason=reason))
