"""A token is sent nowhere but where the operator allows, also when it is renewed."""

import pytest

from integrations.errors import PermanentError
from jobs.cli.connections import _check_token


def test_a_new_token_is_not_sent_to_an_origin_that_is_no_longer_allowed() -> None:
    with pytest.raises(PermanentError, match="not an allowed origin"):
        _check_token("samsara", "token", "http://127.0.0.1:9")
