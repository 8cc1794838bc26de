"""Names of repositories are judged as the Hub's client judges them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pi05.sources.names import valid_name


@given(st.text(alphabet="aZ0-_./é ", min_size=0, max_size=12) | st.text(max_size=200))
def test_names_are_judged_as_the_client_judges_them(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        assert not valid_name(name)
    else:
        assert valid_name(name)
