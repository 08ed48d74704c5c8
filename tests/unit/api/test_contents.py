"""What ``generateContent`` is asked."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from airflow_tuning_provider.api.contents import as_contents
from airflow_tuning_provider.api.inputs import InvalidInputError


class TestContents:
    TURN = {"role": "user", "parts": [{"text": "hi"}]}  # noqa: RUF012

    @pytest.mark.parametrize("contents", ["hi", TURN, [TURN], (TURN,), iter([TURN]), MappingProxyType(TURN)])
    def test_contents(self, contents: Any) -> None:
        assert as_contents(contents) == [self.TURN]

    @pytest.mark.parametrize("contents", [None, 7, [], ["hi"], [TURN, "hi"], b"hi", [None]])
    def test_what_is_no_contents(self, contents: Any) -> None:
        with pytest.raises(InvalidInputError) as caught:
            as_contents(contents)
        assert caught.value.field == "contents"
