"""The tokenizer: text to token ids and back, from Hugging Face's `tokenizer.json` or SentencePiece's `tokenizer.model`.

Leaves out how prompts are written (`prompt.py`) and padding (`collate.py`). The file's bytes travel inside every
checkpoint, so that nothing has to be looked up once it is trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import tokenizers

from pi05.errors import DataError
from pi05.files import read_regular
from pi05.sources.resolve import resolve

FILE_NAMES = ("tokenizer.json", "tokenizer.model")
LARGEST_FILE = 512 * 2**20
"""Bytes; PaliGemma's tokenizer.json has 17 million."""
_SAMPLE = "Task: put it there, State: 0 128 255;\nAction: "
_BOS_NAMES = ("<bos>", "<s>", "[BOS]")


@runtime_checkable
class _Engine(Protocol):
    """What both file formats offer."""

    vocab_size: int
    bos_id: int | None

    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class Tokenizer:
    """A tokenizer and the file that it came from."""

    def __init__(self, path: Path, content: bytes, engine: _Engine, bos_id: int) -> None:
        self.path = path
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.bos_id = bos_id
        self.vocab_size = engine.vocab_size
        """Ids run from 0 to below this; the model's embedding must have at least as many rows."""
        self._content = content
        self._engine = engine

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Load a tokenizer file, the one in a folder, or that of OWNER/NAME on the hub.

        Raises DataError when there is none or it is broken, CheckpointError for a name that is not in reach.
        """
        file = _find_file(resolve(path, "tokenizer"))
        with _reading(file):
            content = read_regular(file, LARGEST_FILE)
            engine: _Engine = _SentencePiece(content) if file.suffix == ".model" else _HuggingFace(content)
            engine.decode(engine.encode([_SAMPLE])[0])  # some faults show only here
        if engine.bos_id is None:
            raise DataError(
                f"{file} has no token that begins a text",
                wanted=f"one of {', '.join(_BOS_NAMES)}",
                remedy="use PaliGemma's tokenizer, or the one in the base checkpoint",
            )
        return cls(file, content, engine, engine.bos_id)

    @property
    def file_name(self) -> str:
        """Name under which the file is stored in a checkpoint."""
        return FILE_NAMES[1] if self.path.suffix == ".model" else FILE_NAMES[0]

    def file_bytes(self) -> bytes:
        """Return the file's content as it was loaded."""
        return self._content

    def encode(self, text: str, add_bos: bool = True) -> list[int]:
        """Return the ids of a text."""
        return self.encode_many([text], add_bos)[0]

    def encode_many(self, texts: Sequence[str], add_bos: bool = True) -> list[list[int]]:
        """Return the ids of many texts; faster than one by one."""
        start = [self.bos_id] if add_bos else []
        with _reading(self.path):
            return [start + ids for ids in self._engine.encode(texts)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; control tokens such as the beginning are left out."""
        with _reading(self.path):
            return self._engine.decode([int(token) for token in ids])


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn what the libraries make of a damaged file into a DataError; both have undocumented types of their own."""
    try:
        yield
    except (DataError, MemoryError, ImportError):
        raise
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"  # of Rust, which is no Exception of Python's
        if not isinstance(error, Exception) and not panic:
            raise
        size = file.stat().st_size if file.is_file() else 0
        raise DataError(
            f"{file} is not a tokenizer that can be read",
            wanted="a complete tokenizer.json (Hugging Face) or tokenizer.model (SentencePiece)",
            found=f"{size} bytes; {type(error).__name__}: {str(error)[:400]}",
            remedy="copy the file again; a file of about 130 bytes is a Git LFS pointer: run git lfs pull",
        ) from error


class _HuggingFace:
    def __init__(self, content: bytes) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocab_size = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        known = (self._tokenizer.token_to_id(name) for name in _BOS_NAMES)
        self.bos_id = next((token for token in known if token is not None), None)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


class _SentencePiece:
    def __init__(self, content: bytes) -> None:
        import sentencepiece

        self._processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        self.vocab_size = int(self._processor.vocab_size())
        bos_id = int(self._processor.bos_id())
        self.bos_id = bos_id if bos_id >= 0 else None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(ids) for ids in self._processor.encode(list(texts))]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._processor.decode([token for token in ids if not self._processor.is_control(token)]))


def _find_file(path: Path) -> Path:
    if path.is_file():
        return path
    inside = (path / folder / name for folder in ("", "tokenizer") for name in FILE_NAMES)  # LeRobot has tokenizer/
    found = [file for file in inside if file.is_file()]
    if not found:
        raise DataError(
            f"there is no tokenizer at {path}",
            wanted=f"{' or '.join(FILE_NAMES)}, or a folder that holds one",
            found="a folder without them" if path.is_dir() else "nothing at this path",
            remedy="pi05 fetch tokenizer; or copy PaliGemma's tokenizer.json (or .model) there, or give its path",
        )
    return found[0]
