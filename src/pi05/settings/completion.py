"""Completion scripts for bash, zsh and fish, from commands and the settings behind their flags.

Written out, not asked for at every key: a script is static, answers at once, and is made anew after an update. Values
are offered where a setting has choices; elsewhere files, except where a number is wanted. Libraries for this
(argcomplete, shtab) stand on argparse, which these flags are not read by.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Union

from pi05.settings.schema import Setting

LONGEST_HELP = 70


@dataclass(frozen=True)
class CompletedFlag:
    """A flag as a shell offers it."""

    name: str
    """Without the hyphens."""
    help: str
    choices: tuple[str, ...]
    """Empty: any value."""
    bare: bool
    """Whether it may stand without a value."""
    file: bool
    """Whether its value may be a file or a folder."""


@dataclass(frozen=True)
class CompletedCommand:
    """A command as a shell offers it."""

    name: str
    summary: str
    flags: tuple[CompletedFlag, ...]


def complete_setting(setting: Setting) -> CompletedFlag:
    """Return what a shell offers for a setting."""
    arguments = typing.get_args(setting.kind)
    kinds = arguments if typing.get_origin(setting.kind) in (Union, types.UnionType) else (setting.kind,)
    choices = [str(choice) for kind in kinds if typing.get_origin(kind) is Literal for choice in typing.get_args(kind)]
    boolean = bool in kinds
    return CompletedFlag(
        name=setting.path,
        help=_short(setting.help),
        choices=("true", "false") if boolean else tuple(choices),
        bare=boolean,
        file=str in kinds and not choices,
    )


def _short(text: str) -> str:
    """Return the first sentence of a help text, up to a length."""
    sentence = re.split(r"[.;:](?=\s|$)", text.split("\n")[0])[0].replace("`", "")
    return sentence if len(sentence) <= LONGEST_HELP else sentence[: LONGEST_HELP - 1].rsplit(" ", 1)[0] + " …"


# --- bash -------------------------------------------------------------------------------------------------------------

_BASH = """\
# Completion of pi05 for bash, made by `pi05 completion bash`.
_pi05() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" words flags="" choices="" before=""
    local token="${{line##*[[:space:]]}}"
    local rest="${{line%"$token"}}"
    read -r -a words <<< "$rest"
    COMPREPLY=()
    if (( ${{#words[@]}} == 1 )); then
        COMPREPLY=( $(compgen -W "{commands}" -- "$token") )
        return
    fi
    local command="${{words[1]}}" flag="${{words[-1]}}"
    if [[ $token == --*=* ]]; then
        flag="${{token%%=*}}"
        # readline replaces what stands behind the last of these, so the flag is written again only without it
        [[ $COMP_WORDBREAKS == *=* ]] || before="$flag="
        token="${{token#*=}}"
    elif [[ $token == -* ]]; then
        flag=""
    fi
    case "$command" in
{flags}
    esac
    case "$command $flag" in
{choices}
    esac
    if [[ -n $choices ]]; then
        COMPREPLY=( $(compgen -P "$before" -W "$choices" -- "$token") )
    elif [[ -z $flag ]]; then
        COMPREPLY=( $(compgen -W "$flags" -- "$token") )
        [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace
    else
        compopt -o default
    fi
}}
complete -F _pi05 pi05
"""


def bash_script(commands: Sequence[CompletedCommand]) -> str:
    """Return the script for bash 4.4 and newer; it needs no package."""
    flags, choices = [], []
    for command in commands:
        spelled = " ".join(f"--{flag.name}{'' if flag.bare else '='}" for flag in command.flags)
        flags.append(f'        {command.name}) flags="{spelled} --help" ;;')
        choices += [
            f'        "{command.name} --{flag.name}") choices="{" ".join(flag.choices)}" ;;'
            for flag in command.flags
            if flag.choices
        ]
    names = " ".join(command.name for command in commands)
    return _BASH.format(commands=names, flags="\n".join(flags), choices="\n".join(choices))


# --- zsh --------------------------------------------------------------------------------------------------------------

_ZSH = """\
#compdef pi05
# Completion of pi05 for zsh, made by `pi05 completion zsh`.
_pi05() {{
    local -a commands
    commands=(
{commands}
    )
    if (( CURRENT == 2 )); then
        _describe -t commands 'command' commands
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{cases}
    esac
}}
if [[ $funcstack[1] == _pi05 ]]; then
    _pi05 "$@"  # loaded from a folder of $fpath
else
    compdef _pi05 pi05
fi
"""


def zsh_script(commands: Sequence[CompletedCommand]) -> str:
    """Return the script for zsh, to be evaluated after compinit or put into a folder of $fpath as `_pi05`."""
    names, cases = [], []
    for command in commands:
        names.append(f"        {_quote(f'{command.name}:{command.summary}')}")
        arguments = [f"                {_quote(_zsh_flag(flag))} \\" for flag in command.flags]
        body = "\n".join(["            _arguments \\", *arguments, "                '*:file:_files'"])
        cases.append(f"        {command.name})\n{body}\n            ;;")
    return _ZSH.format(commands="\n".join(names), cases="\n".join(cases))


def _zsh_flag(flag: CompletedFlag) -> str:
    told = re.sub(r"([\[\]:\\])", r"\\\1", flag.help)
    action = f"({' '.join(flag.choices)})" if flag.choices else "_files" if flag.file else " "
    return f"--{flag.name}=[{told}]{'::' if flag.bare else ':'}value:{action}"


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# --- fish -------------------------------------------------------------------------------------------------------------


def fish_script(commands: Sequence[CompletedCommand]) -> str:
    """Return the script for fish 3 and newer."""
    lines = [
        "# Completion of pi05 for fish, made by `pi05 completion fish`.",
        "complete -c pi05 -e",
        "complete -c pi05 -f",
    ]
    for command in commands:
        about = _fish_quote(command.summary)
        lines.append(f"complete -c pi05 -n __fish_use_subcommand -a {command.name} -d {about}")
        seen = f"complete -c pi05 -n '__fish_seen_subcommand_from {command.name}'"
        lines.append(f"{seen} -F")
        for flag in command.flags:
            words = "" if flag.bare else " -r -F" if flag.file else " -x"
            offered = f" -a {_fish_quote(' '.join(flag.choices))}" if flag.choices and not flag.bare else ""
            lines.append(f"{seen} -l {flag.name}{words}{offered} -d {_fish_quote(flag.help)}")
    return "\n".join(lines) + "\n"


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
