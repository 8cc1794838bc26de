"""A written tokenizer gives our ids in Hugging Face's hands, whatever file it came from."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece
import tokenizers
from fakes import TASKS, write_tokenizer, write_word_tokenizer
from tokenizers import processors

from pi05.checkpoint.sentencepiece import read_model
from pi05.checkpoint.tokenizer_folder import write_tokenizer as write
from pi05.data.tokenizer import Tokenizer
from pi05.errors import CheckpointError

TEXTS = [f"Task: {task}, State: 0 17 255 -1;\nAction: " for task in TASKS]


def sentencepiece_model(path: Path, **settings: object) -> Tokenizer:
    content = io.BytesIO()
    digits = " ".join(map(str, range(256)))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([f"Task: {task}, State: {digits[:300]};\nAction: " for task in TASKS] * 4),
        model_writer=content,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        minloglevel=2,
        **{"vocab_size": 110, **settings},
    )
    path.write_bytes(content.getvalue())
    return Tokenizer.load(path)


GEMMA = {
    "model_type": "bpe",
    "byte_fallback": True,
    "vocab_size": 400,
    "normalization_rule_name": "identity",
    "add_dummy_prefix": False,
    "remove_extra_whitespaces": False,
    "user_defined_symbols": ["<loc0000>", "▁▁", "▁▁▁", "\n", "\n\n"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


SOURCES = {
    "byte-level": lambda folder: Tokenizer.load(write_tokenizer(folder / "b" / "tokenizer.json")),
    "words": lambda folder: Tokenizer.load(
        write_word_tokenizer(folder / "w" / "tokenizer.json", ["<unk>", "Task", "the", "block", ":", "<s>"])
    ),
    "bpe like Gemma's": lambda folder: sentencepiece_model(folder / "gemma.model", **GEMMA),
    "bpe": lambda folder: sentencepiece_model(folder / "bpe.model", model_type="bpe"),
    "unigram": lambda folder: sentencepiece_model(
        folder / "unigram.model", model_type="unigram", byte_fallback=True, vocab_size=300
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_ids_and_files(source: str, folder: Path, tmp_path: Path) -> None:
    tokenizer = SOURCES[source](folder)
    write(tmp_path, tokenizer, TEXTS)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path)
    for text in [*TEXTS, "pick  up   the ▁ block\n\n", "<loc0000> näher", "a" * 300]:
        assert theirs.encode(text).ids == tokenizer.encode(text)
        assert ours.encode(text) == tokenizer.encode(text)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert theirs.token_to_id(settings["bos_token"]) == tokenizer.bos_id
    assert theirs.token_to_id(settings["pad_token"]) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


def test_a_file_that_puts_the_first_token_stays_to_the_byte(tmp_path: Path) -> None:
    file = write_tokenizer(tmp_path / "tokenizer.json")
    stored = tokenizers.Tokenizer.from_file(str(file))
    stored.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    stored.enable_truncation(7)
    stored.save(str(file))
    write(tmp_path / "out", Tokenizer.load(file), TEXTS)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == file.read_bytes()


def test_a_file_that_cannot_be_written_alike_is_refused(tmp_path: Path) -> None:
    """Three spaces are one piece of their own that SentencePiece keeps and this normaliser would join."""
    tokenizer = sentencepiece_model(
        tmp_path / "a.model", **{**GEMMA, "remove_extra_whitespaces": True, "add_dummy_prefix": True}
    )
    with pytest.raises(CheckpointError, match="others tokenise as the policy was trained"):
        write(tmp_path / "out", tokenizer, ["a   b"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"\x0a\xff\xff\xff", b"hello there", bytes(40)])
def test_what_is_no_model_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        read_model(content)


@pytest.mark.process
def test_transformers_reads_the_folder(folder: Path, tmp_path: Path) -> None:
    """In a process of its own: nothing of ours may import transformers."""
    pytest.importorskip("importlib.metadata").version("transformers")
    for i, source in enumerate(SOURCES):
        write(tmp_path / str(i), SOURCES[source](folder), TEXTS)
    program = (
        "import json, sys; from transformers import AutoTokenizer\n"
        "texts = json.loads(sys.argv[1]); rows = []\n"
        "for folder in sys.argv[2:]:\n"
        "    tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "    out = tokenizer(texts, max_length=400, truncation=True, padding='max_length', padding_side='right')\n"
        "    rows.append([[t for t, m in zip(*pair) if m] for pair in zip(out['input_ids'], out['attention_mask'])])\n"
        "print(json.dumps(rows))"
    )
    folders = [str(tmp_path / str(i)) for i in range(len(SOURCES))]
    command = [sys.executable, "-c", program, json.dumps(TEXTS), *folders]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env={"HF_HUB_OFFLINE": "1"})
    rows = json.loads(answer.stdout)
    assert rows == [SOURCES[source](folder).encode_many(TEXTS) for source in SOURCES]
