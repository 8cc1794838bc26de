"""What is asked of the hub that downloads come from."""

from __future__ import annotations

from urllib.parse import urlsplit

from pi05.sources.names import PALIGEMMA

PUBLIC = "api/models/lerobot/pi05_base"
TOKENIZER = f"{PALIGEMMA}/resolve/main/tokenizer.json"


def is_address(endpoint: str) -> bool:
    """Tell whether an endpoint is one: http or https, and a host."""
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
