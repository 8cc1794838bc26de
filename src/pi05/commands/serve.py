"""`pi05 serve`: a policy for robots, over openpi's websocket protocol and its dialects."""

from __future__ import annotations

from collections.abc import Sequence

from pi05.commands.command import OFFLINE, Command, read_settings
from pi05.errors import ConfigError, ServeError
from pi05.serve.config import ServeConfig


def serve(arguments: Sequence[str]) -> int:
    """Run `pi05 serve`."""
    config = read_settings(ServeConfig, arguments)
    if config.policy.path is None:
        raise ConfigError("pi05 serve needs a policy", wanted="--policy.path=RUN", remedy="name a run or a checkpoint")
    try:
        import msgpack  # noqa: F401 - whether they are there
        import websockets  # noqa: F401
    except ImportError as error:
        raise ServeError(
            f"{error.name} is not installed, which pi05 serve needs",
            found=str(error),
            remedy="pip install 'pi05[serve]'",
        ) from error
    from pi05.serve.run import serve_policy

    serve_policy(config)
    return 0


COMMAND = Command(
    summary="Policy server for robots: openpi's protocol, several clients.",
    usage="pi05 serve --policy.path=RUN [--port=8000] [flags]\n       pi05 serve --policy.path=RUN --selftest",
    run=serve,
    settings=ServeConfig,
    extra=(OFFLINE,),
)
