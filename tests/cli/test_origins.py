"""A token is sent nowhere but where the operator allows, also when it is renewed."""

import pytest

from integrations.errors import PermanentError
from jobs.cli.credentials import check_credentials


def test_a_new_token_is_not_sent_to_an_origin_that_is_no_longer_allowed() -> None:
    with pytest.raises(PermanentError, match="not an allowed origin"):
        check_credentials("samsara", {"token": "token"}, "http://127.0.0.1:9")
