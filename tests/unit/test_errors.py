"""How errors read."""

from __future__ import annotations

import errno
import json

import pytest

from pi05.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    EvaluationError,
    TrainingError,
    UserError,
    doing,
    is_out_of_memory,
    tell,
    visible,
)


def test_an_error_says_problem_wanted_found_and_remedy() -> None:
    error = DataError("there is no video", wanted="a.mp4", found="nothing", remedy="copy the file")
    assert error.render().splitlines() == [
        "there is no video",
        "  wanted: a.mp4",
        "  found:  nothing",
        "  to do:  copy the file",
    ]
    assert str(error) == error.render()


def test_what_is_not_known_is_left_out() -> None:
    assert ConfigError("no", remedy="yes").render() == "no\n  to do:  yes"
    assert "found:  0" in ConfigError("no", found="0", remedy="yes").render()


def test_an_error_without_a_remedy_cannot_be_made() -> None:
    with pytest.raises(TypeError):
        UserError("no")  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [ConfigError, DataError, CheckpointError, TrainingError, EvaluationError])
def test_the_family_has_one_parent(kind: type[UserError]) -> None:
    with pytest.raises(UserError):
        raise kind("no", remedy="yes")


def test_what_the_system_refuses_names_the_doing_the_path_and_a_remedy() -> None:
    with pytest.raises(DataError) as told, doing("write the set", "a/b", DataError):
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", "a")
    assert told.value.render().splitlines() == [
        "cannot write the set: a/b",
        "  found:  Not a directory: a",
        "  to do:  a file stands where a folder should be: remove or rename what stands there, or choose another path",
    ]


def test_a_refusal_without_words_is_told_all_the_same() -> None:
    for refusal in (OSError(), MemoryError(), OSError("only text")):
        with pytest.raises(UserError, match="cannot go") as told, doing("go"):
            raise refusal
        assert told.value.found


def test_a_library_that_cannot_be_loaded_leads_to_the_doctor() -> None:
    with pytest.raises(TrainingError) as told, doing("train in", "runs/a", TrainingError):
        raise OSError("libcudnn.so.9: cannot open shared object file: No such file or directory")
    assert told.value.problem == "cannot train in: a library cannot be loaded"
    assert "libcudnn.so.9" in (told.value.found or "")
    assert told.value.remedy.startswith("pi05 doctor")


def test_a_user_error_and_a_closed_pipe_pass_through() -> None:
    for error in (BrokenPipeError(), DataError("no", remedy="yes"), ZeroDivisionError()):
        with pytest.raises(type(error)) as told, doing("go"):
            raise error
        assert told.value is error


class OutOfMemoryError(RuntimeError):
    """As torch's, which is named so."""

    __module__ = "torch"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory\ntrace"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        OutOfMemoryError("Tried to allocate 20.00 GiB"),
    ],
)
def test_torch_without_memory_is_memory(error: RuntimeError) -> None:
    with (
        pytest.raises(DataError, match="cannot load the base: not enough memory") as told,
        doing("load the base", "b", DataError),
    ):
        raise error
    assert told.value.found == str(error).split("\n")[0]


def test_torchs_own_type_is_known() -> None:
    import torch

    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator") as refused:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(refused.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), RecursionError(), NotImplementedError()])
def test_another_runtime_error_is_a_fault_of_the_program(error: RuntimeError) -> None:
    with pytest.raises(type(error)) as told, doing("go"):
        raise error
    assert told.value is error


EVIL = "a\x1b[2J\x1b]52;c;cm0gLXJm\x07\x9b31m\u202egnp.exe\x7f\r\u2028b"


def test_what_acts_on_a_terminal_is_spelt_out() -> None:
    shown = visible(EVIL)
    assert shown == (r"a\u001b[2J\u001b]52;c;cm0gLXJm\u0007\u009b31m\u202egnp.exe\u007f\u000d\u2028b")
    assert visible("two\nlines\tand π₀.₅ 放到") == "two\nlines\tand π₀.₅ 放到"
    assert json.loads(visible(json.dumps([EVIL], ensure_ascii=False))) == [EVIL]


def test_an_error_shows_nothing_that_acts_on_a_terminal() -> None:
    for error in (UserError(EVIL, remedy="x"), UserError("x", wanted=EVIL, found=EVIL, remedy=EVIL)):
        for told in (error.render(), str(error)):
            assert not set(told) & set("\x1b\x07\x9b\u202e\x7f\r")


def test_a_login_in_an_address_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    tell("hub: https://ada:secret@host.example/ada/cubes, http://host.example/a@b and https://token@host")
    printed = capsys.readouterr().out
    assert printed == "hub: https://***@host.example/ada/cubes, http://host.example/a@b and https://***@host\n"
    assert "secret" not in UserError("x", found="https://ada:secret@host", remedy="x").render()
    assert visible("https://ada:se@cret@host.example/a@b") == "https://***@host.example/a@b"
