"""The hub that downloads come from, and what is asked there."""

from __future__ import annotations

from urllib.parse import urlsplit

HUB = "https://huggingface.co"
PUBLIC = "api/models/lerobot/pi05_base"
TOKENIZER_REPOSITORY = "google/paligemma-3b-pt-224"
TOKENIZER = f"{TOKENIZER_REPOSITORY}/resolve/main/tokenizer.json"


def is_address(endpoint: str) -> bool:
    """Tell whether an endpoint is one: http or https, and a host."""
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
