"""`pi05 fetch`: base, tokenizer, data set and assets to local folders; a bundle for a machine without a network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pi05.commands.command import Command, read_words
from pi05.commands.train import read_training_settings
from pi05.errors import ConfigError, HubError, doing, tell
from pi05.hub.config import FetchConfig
from pi05.settings.schema import Setting
from pi05.sources.names import SHORT, Source, parse_wish

_say = partial(tell, aside=True, at_once=True)
"""A transfer is long: each line is shown at once."""

BUNDLE = Setting(
    "bundle",
    str | None,
    None,
    "Folder for all that a run needs on a machine without a network: pi05 fetch --bundle OUT, with the flags of that "
    "pi05 train. OUT/train.sh starts it there.",
)
WHEELS = Setting("wheels", bool, False, "With --bundle: the wheels of this environment's packages too, in OUT/wheels.")
MIRROR = Setting("mirror", tuple[str, ...], (), "Addresses to try before HF_ENDPOINT or the hub, in turn.")
USAGE = (
    f"pi05 fetch {'|'.join(SHORT)} [--to FOLDER]\n"
    "       pi05 fetch OWNER/NAME[@REVISION] [--repo-type=dataset] [--to FOLDER]\n"
    "       pi05 fetch --verify FOLDER\n"
    "       pi05 fetch --bundle OUT [--wheels] [training flags]"
)


def fetch(arguments: Sequence[str]) -> int:
    """Run `pi05 fetch`."""
    if any(word.partition("=")[0] == f"--{BUNDLE.path}" for word in arguments):
        return _bundle(arguments)
    config, words = read_words(FetchConfig, [*_verify_as_a_word(arguments)])
    if config.verify or config.relocate:
        _check_folders(config, words)
        return 0
    if not words:
        raise ConfigError(
            "pi05 fetch needs a name", wanted=USAGE.splitlines()[0], remedy="pi05 fetch base, for example"
        )
    wishes = [parse_wish(word, config.repo_type, tokenizer_only=config.tokenizer_only) for word in words]
    if config.to is not None and len(wishes) > 1:
        raise ConfigError("--to is one folder, for one name", found=" ".join(words), remedy="fetch one after the other")
    for wish in wishes:
        _fetch_one(wish, config)
    return 0


def _verify_as_a_word(arguments: Sequence[str]) -> list[str]:
    """Write `--verify=FOLDER` as `--verify FOLDER`: the flag is a switch, and the folder a word."""
    found: list[str] = []
    for word in arguments:
        name, equals, value = word.partition("=")
        split = name in ("--verify", "--relocate") and equals and value.lower() not in ("true", "false")
        found += [name, value] if split else [word]
    return found


def _fetch_one(wish: Source, config: FetchConfig) -> None:
    from pi05.hub.fetch import fetch_to

    if config.episodes is not None and wish.kind != "dataset":
        raise ConfigError(f"{wish} has no episodes", wanted="a data set", remedy="leave --episodes out")
    needed = None
    if config.episodes is not None:
        from pi05.data.wanted import needed_files

        needed = needed_files(config.episodes)
    folder = Path(config.to or wish.folder)
    with doing("fetch to", folder, HubError):
        fetch_to(wish, folder, config, needed=needed, say=_say)
    if wish.name == SHORT["libero-assets"].name:
        _say(liberos_assets(folder))


def liberos_assets(folder: Path) -> str:
    """Return what is to be said of fetched assets: whether they are the original files, and how they are used."""
    from pi05.sim.libero.assets import FOLDER, changed_files, lacking_files, manifest

    lacking = lacking_files(folder)
    if lacking:
        return (
            f"warning: {len(lacking)} of LIBERO's {len(manifest())} files are missing or of another size, such as "
            f"{lacking[0]}; LIBERO will not start with this folder. make libero installs them as wheels"
        )
    changed = changed_files(folder)
    what = f"all {len(manifest())} files are there" + (
        f", {len(changed)} of them with another content than the original's, such as {changed[0]}" if changed else ""
    )
    if folder.name == SHORT["libero-assets"].folder and folder.parent.resolve() == Path.cwd():
        return f"LIBERO: {what}; they are used where the wheels are not installed"
    return f"LIBERO: {what}; export {FOLDER}={folder.absolute()} has them used"


def _check_folders(config: FetchConfig, words: Sequence[str]) -> None:
    from pi05.hub.bundle import relocate
    from pi05.sources.receipt import verify

    if len(words) != 1 or (config.verify and config.relocate):
        flag = "relocate" if config.relocate else "verify"
        raise ConfigError(f"--{flag} takes one folder", wanted=f"pi05 fetch --{flag} FOLDER", remedy="name one folder")
    folder = Path(words[0])
    if config.relocate:
        with doing("rewrite the references in", folder, HubError):
            lines = relocate(folder, _say)
        tell("\n".join(lines) if lines else f"{folder}: nothing to rewrite, its references are right")
        return
    with doing("verify", folder, HubError):
        receipt = verify(folder)
    tell(
        f"{folder}: {len(receipt.files)} files are those of {receipt.name}"
        + f" at {receipt.commit[:8]}" * bool(receipt.commit)
    )


def _bundle(arguments: Sequence[str]) -> int:
    request, values = read_training_settings(arguments, (BUNDLE, WHEELS, MIRROR))
    for notice in request.notices:
        tell(f"note: {notice}", aside=True)
    if values[BUNDLE.path] is None:
        raise ConfigError("--bundle needs a folder", wanted="pi05 fetch --bundle OUT", remedy="name a folder")
    from pi05.hub.bundle import make_bundle

    folder = Path(values[BUNDLE.path])
    with doing("make a bundle in", folder, HubError):
        make_bundle(
            folder, request.config, arguments, wheels=values[WHEELS.path], mirrors=values[MIRROR.path], say=_say
        )
    return 0


COMMAND = Command(
    summary="Bring base, tokenizer, data sets to local folders; offline bundles.",
    usage=USAGE,
    run=fetch,
    settings=FetchConfig,
    extra=(BUNDLE, WHEELS),
)
