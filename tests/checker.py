"""The type checker that `conftest.py` puts on every function of the package: beartype, where an int is a float too."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))
