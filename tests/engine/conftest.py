"""A run that was done once, in parts of one MDP."""

import pytest
from toy import toy, trained

from bmrl.engine import Engine


@pytest.fixture(scope="session")
def grouped(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("grouped") / "run", toy(), Engine(group=1))
