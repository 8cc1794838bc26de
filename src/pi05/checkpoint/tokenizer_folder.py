"""A policy's tokenizer as a folder that transformers' AutoTokenizer loads without a network, proven to give our ids.

Our own reader takes the ids of the text and puts the first token before them itself; LeRobot leaves that to the
post-processor in `tokenizer.json`. A file without one gets one; a SentencePiece model is converted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from pi05.checkpoint.sentencepiece import read_sentencepiece, to_hugging_face
from pi05.data.tokenizer import Tokenizer
from pi05.errors import CheckpointError
from pi05.files import write_atomic, write_json

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
_ROLES = {
    "pad_token": ("<pad>", "[PAD]", "<|endoftext|>"),
    "eos_token": ("<eos>", "</s>", "[EOS]"),
    "unk_token": ("<unk>", "[UNK]"),
}
_SAMPLES = (
    "Task: pick up the red cube and place it in the bowl, State: " + " ".join(map(str, range(-1, 256))) + ";\nAction: ",
    "Task: Öffne die Schublade – leise!, State: 0;\nAction: ",
    "Task: 把红色方块放到蓝色盘子上, State: 128 255;\nAction: ",
    "open the top-left drawer (2 cm)\n",
)
"""Texts on which the written tokenizer must agree, beside those of the caller."""


def write_tokenizer(folder: Path, tokenizer: Tokenizer, texts: Sequence[str] = ()) -> None:
    """Write tokenizer.json and tokenizer_config.json into `folder`.

    Raises CheckpointError when the file that was written would not give the ids of `tokenizer`, for `texts` and for
    samples of state prompts.
    """
    content = _hugging_face(tokenizer)
    written = _plain(content)
    for text in (*texts, *_SAMPLES):
        wanted, found = tokenizer.encode(text), written.encode(text).ids
        if wanted != found:
            raise _differs(tokenizer, text, wanted, found)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / TOKENIZER, content)
    write_json(folder / TOKENIZER_CONFIG, _settings(written, tokenizer.bos_id))


def _hugging_face(tokenizer: Tokenizer) -> bytes:
    """Return a tokenizer.json; the file's own bytes when it puts the first token itself."""
    content = tokenizer.file_bytes()
    if tokenizer.path.suffix == ".model":
        try:
            converted = to_hugging_face(read_sentencepiece(content))
        except ValueError as error:
            raise CheckpointError(
                "the SentencePiece tokenizer cannot be written as a tokenizer.json",
                wanted="a unigram or BPE model",
                found=f"{tokenizer.path}: {error}",
                remedy="put PaliGemma's tokenizer.json in the place of the .model file",
            ) from error
        values = json.loads(converted.to_str())
    elif _plain(content).encode("a").ids == tokenizer.encode("a"):
        return content
    else:
        values = json.loads(content)
    name = _plain(json.dumps(values).encode()).id_to_token(tokenizer.bos_id)
    values["post_processor"] = _first_token(str(name), tokenizer.bos_id)
    return json.dumps(values, ensure_ascii=False, indent=2).encode()


def _plain(content: bytes) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _first_token(name: str, token: int) -> dict[str, Any]:
    """Return a post-processor that puts the token `name` before a text."""
    first, text = {"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    second = [{"SpecialToken": {"id": name, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, *second],
        "special_tokens": {name: {"id": name, "ids": [token], "tokens": [name]}},
    }


def _settings(tokenizer: tokenizers.Tokenizer, bos_id: int) -> dict[str, Any]:
    """Return tokenizer_config.json. Padding is masked, so any token serves where there is none for it."""
    roles = {
        role: next((name for name in names if tokenizer.token_to_id(name) is not None), None)
        for role, names in _ROLES.items()
    }
    bos = tokenizer.id_to_token(bos_id)
    roles["pad_token"] = roles["pad_token"] or roles["eos_token"] or roles["unk_token"] or bos
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        **{role: name for role, name in roles.items() if name is not None},
        "padding_side": "right",
        "truncation_side": "right",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 10**30,
    }


def _differs(tokenizer: Tokenizer, text: str, wanted: list[int], found: list[int]) -> CheckpointError:
    place = next((i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), len(wanted))
    return CheckpointError(
        "the tokenizer cannot be written so that others tokenise as the policy was trained",
        wanted=f"{wanted[: place + 3][-6:]} at token {place} of {text[:60]!r}",
        found=f"{found[: place + 3][-6:]} from {tokenizer.path}",
        remedy="train with the tokenizer.json of PaliGemma (google/paligemma-3b-pt-224) instead of this file",
    )
