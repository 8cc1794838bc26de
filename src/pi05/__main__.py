"""Let `python -m pi05` do what `pi05` does."""

from __future__ import annotations

import sys

from pi05.cli import main

if __name__ == "__main__":
    sys.exit(main())
