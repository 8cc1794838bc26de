"""Tokenizers: both file formats against the known ids of Gemma, the beginning token, broken files."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from fakes import TASKS, write_word_tokenizer
from tokenizers import processors

from pi05.data.tokenizer import Tokenizer
from pi05.errors import DataError

WORDS = ["<pad>", "<eos>", "<bos>", "<unk>", "put", "the", "block"]


def sentencepiece_file(path: Path, gemma: dict[str, Any]) -> Path:
    """Write Gemma's vocabulary as a SentencePiece model: the same pieces, ranked by the same merges."""
    proto = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    pieces = proto.ModelProto()
    kinds = pieces.SentencePiece
    special = {"<pad>": kinds.CONTROL, "<eos>": kinds.CONTROL, "<bos>": kinds.CONTROL, "<unk>": kinds.UNKNOWN}
    for text, token in sorted(gemma["model"]["vocab"].items(), key=lambda item: item[1]):
        text = "<0x09>" if text == "\t" else text  # tokenizer.json writes the tab's byte piece as a tab
        piece = pieces.pieces.add()
        piece.piece, piece.score = text, -float(token)
        if text in special:
            piece.type = special[text]
        elif text.startswith("<0x") and len(text) == 6:
            piece.type = kinds.BYTE
    trainer = pieces.trainer_spec
    trainer.model_type, trainer.byte_fallback = proto.TrainerSpec.BPE, True
    trainer.vocab_size = len(pieces.pieces)
    trainer.pad_id, trainer.eos_id, trainer.bos_id, trainer.unk_id = 0, 1, 2, 3
    trainer.bos_piece, trainer.eos_piece, trainer.pad_piece = "<bos>", "<eos>", "<pad>"
    rules = pieces.normalizer_spec
    rules.name, rules.add_dummy_prefix = "identity", False
    rules.remove_extra_whitespaces, rules.escape_whitespaces = False, True
    path.write_bytes(pieces.SerializeToString())
    return path


@pytest.fixture(scope="module")
def golden(shared: Path) -> list[dict[str, Any]]:
    return json.loads((shared / "golden" / "tokenizer" / "gemma_golden_ids.json").read_text())["cases"]


@pytest.fixture(scope="module", params=["tokenizer.json", "tokenizer.model"])
def gemma(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    source = shared / "tokenizer" / "gemma"
    if request.param == "tokenizer.json":
        return Tokenizer.load(source)
    content = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    folder = tmp_path_factory.mktemp("sentencepiece")
    sentencepiece_file(folder / "tokenizer.model", content)
    return Tokenizer.load(folder)


def known(gemma: Tokenizer, golden: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cases for a file format: SentencePiece never reads control tokens out of a text."""
    chosen = [case for case in golden if gemma.file_name == "tokenizer.json" or "<bos>" not in case["text"]]
    assert len(chosen) > 10
    return chosen


def test_ids_are_gemmas(gemma: Tokenizer, golden: list[dict[str, Any]]) -> None:
    golden = known(gemma, golden)
    for case in golden:
        assert gemma.encode(case["text"], add_bos=False) == case["ids"], case["text"]
        assert gemma.encode(case["text"]) == case["ids_with_bos"], case["text"]
    texts = [case["text"] for case in golden]
    assert gemma.encode_many(texts) == [case["ids_with_bos"] for case in golden]


def test_text_comes_back(gemma: Tokenizer, golden: list[dict[str, Any]]) -> None:
    for case in known(gemma, golden):
        assert gemma.decode(case["ids_with_bos"]) == case["decoded"]


def test_gemma_begins_with_2(gemma: Tokenizer) -> None:
    assert (gemma.bos_id, gemma.vocab_size) == (2, 256_000)


def test_the_beginning_comes_from_the_file(tmp_path: Path) -> None:
    file = write_word_tokenizer(tmp_path / "tokenizer.json", ["<unk>", "put", "the", "<s>"])
    tokenizer = Tokenizer.load(file)
    assert tokenizer.encode("put the") == [3, 1, 2]
    assert tokenizer.encode("put the", add_bos=False) == [1, 2]
    assert tokenizer.decode([3, 1, 2]) == "put the"


def test_a_sentencepiece_model_made_here(tmp_path: Path) -> None:
    """The SentencePiece path on its own, where Gemma's vocabulary is not at hand."""
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([f"Task: {task}, State: 0 1 2 3 4 5 6 7 8 9;" for task in TASKS] * 4),
        model_writer=content,
        model_type="bpe",
        vocab_size=100,
        bos_id=5,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(content.getvalue())
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.bos_id, tokenizer.file_name, tokenizer.vocab_size) == (5, "tokenizer.model", 100)
    ids = tokenizer.encode(TASKS[0])
    assert ids[0] == 5
    assert ids[1:] == tokenizer.encode(TASKS[0], add_bos=False)
    assert tokenizer.decode(ids) == TASKS[0]
    assert tokenizer.encode_many(list(TASKS))[1] == tokenizer.encode(TASKS[1])


def test_a_folder_a_file_and_its_copy_are_the_same(tmp_path: Path) -> None:
    file = write_word_tokenizer(tmp_path / "a" / "tokenizer.json", WORDS)
    tokenizer = Tokenizer.load(file.parent)
    assert (tokenizer.path, tokenizer.file_name, tokenizer.vocab_size) == (file, "tokenizer.json", len(WORDS))
    assert tokenizer.file_bytes() == file.read_bytes()
    assert tokenizer.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_stored_truncation_is_turned_off(tmp_path: Path) -> None:
    file = write_word_tokenizer(tmp_path / "tokenizer.json", WORDS)
    stored = tokenizers.Tokenizer.from_file(str(file))
    stored.enable_truncation(2)
    stored.enable_padding(length=9)
    stored.save(str(file))
    assert Tokenizer.load(file).encode("put the block the", add_bos=False) == [4, 5, 6, 5]


def test_the_beginning_is_never_doubled(tmp_path: Path) -> None:
    """Files that add control tokens by themselves, as Gemma's does, must not add a second one."""
    file = write_word_tokenizer(tmp_path / "tokenizer.json", WORDS)
    stored = tokenizers.Tokenizer.from_file(str(file))
    stored.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    stored.save(str(file))
    assert Tokenizer.load(file).encode("put the") == [2, 4, 5]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder without them"):
        Tokenizer.load(tmp_path)
    with pytest.raises(DataError, match="nothing at this path"):
        Tokenizer.load(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_a_git_lfs_pointer_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9\n")
    with pytest.raises(DataError, match="git lfs pull"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_without_a_beginning_is_an_error(tmp_path: Path) -> None:
    file = write_word_tokenizer(tmp_path / "tokenizer.json", ["<unk>", "put"])
    with pytest.raises(DataError, match="no token that begins a text"):
        Tokenizer.load(file)
