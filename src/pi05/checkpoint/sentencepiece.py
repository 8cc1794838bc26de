"""A SentencePiece model as a Hugging Face `tokenizer.json`, for programs that read only the latter.

Reads the .model file itself, a protocol buffer (field numbers: sentencepiece_model.proto of
https://github.com/google/sentencepiece), so that no protobuf package is needed. Whether the result tokenises alike is
for the caller to prove (`tokenizer_folder.py` does): rare pieces, such as unused ones, have no counterpart.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
UNIGRAM, BPE = 1, 2
SPACE = "▁"


@dataclass
class SentencePieceModel:
    """What of a .model file decides how it tokenises."""

    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    """Text, score and type of each id."""
    algorithm: int = UNIGRAM
    byte_fallback: bool = False
    char_map: bytes = b""
    dummy_prefix: bool = True
    merge_spaces: bool = True
    escape_spaces: bool = True


def read_sentencepiece(content: bytes) -> SentencePieceModel:
    """Read the bytes of a .model file. Raises ValueError when they are something else."""
    model = SentencePieceModel()
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes):
            piece: dict[int, Any] = dict(_fields(value))
            score = struct.unpack("<f", piece.get(2, bytes(4)))[0]
            model.pieces.append((piece[1].decode("utf-8"), score, piece.get(3, NORMAL)))
        elif number == 2 and isinstance(value, bytes):
            trainer: dict[int, Any] = dict(_fields(value))
            model.algorithm = trainer.get(3, UNIGRAM)
            model.byte_fallback = bool(trainer.get(35, 0))
        elif number == 3 and isinstance(value, bytes):
            normalizer: dict[int, Any] = dict(_fields(value))
            model.char_map = normalizer.get(2, b"")
            model.dummy_prefix = bool(normalizer.get(3, 1))
            model.merge_spaces = bool(normalizer.get(4, 1))
            model.escape_spaces = bool(normalizer.get(5, 1))
    if not model.pieces or model.algorithm not in (UNIGRAM, BPE):
        raise ValueError(f"{len(model.pieces)} pieces, algorithm {model.algorithm}")
    return model


def to_hugging_face(model: SentencePieceModel) -> tokenizers.Tokenizer:
    """Build the tokenizer that does the same, without a post-processor."""
    vocabulary = {text: i for i, (text, _, _) in enumerate(model.pieces)}
    unknown = next((i for i, (_, _, kind) in enumerate(model.pieces) if kind == UNKNOWN), None)
    if model.algorithm == BPE:
        engine: models.Model = models.BPE(
            vocab=vocabulary,
            merges=_merges(model, vocabulary),
            unk_token=None if unknown is None else model.pieces[unknown][0],
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    else:
        scored = [(text, score) for text, score, _ in model.pieces]
        engine = models.Unigram(scored, unk_id=unknown, byte_fallback=model.byte_fallback)
    result = tokenizers.Tokenizer(engine)
    steps = _normalizers(model)
    if steps:
        result.normalizer = normalizers.Sequence(steps)
    result.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    result.add_special_tokens([text for text, _, kind in model.pieces if kind in (CONTROL, UNKNOWN)])
    result.add_tokens(
        [
            # they are found in the text with its spaces escaped, which a prefix would spoil
            AddedToken(text, normalized=not model.dummy_prefix, special=False)
            for text, _, kind in model.pieces
            if kind == USER_DEFINED
        ]
    )
    return result


def _normalizers(model: SentencePieceModel) -> list[normalizers.Normalizer]:
    steps: list[normalizers.Normalizer] = []
    if model.char_map:
        steps.append(normalizers.Precompiled(model.char_map))
    if model.merge_spaces:
        steps += [normalizers.Strip(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    if model.dummy_prefix:
        steps.append(normalizers.Prepend(" "))
    if model.escape_spaces:
        steps.append(normalizers.Replace(" ", SPACE))
    return steps


def _merges(model: SentencePieceModel, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Return the pairs that SentencePiece would join, best piece first; it stores the results only."""
    by_score: dict[float, list[tuple[int, int, str, str]]] = defaultdict(list)
    for text, score, kind in model.pieces:
        if kind != NORMAL:
            continue
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in vocabulary and right in vocabulary:
                by_score[score].append((vocabulary[left], vocabulary[right], left, right))
    return [(left, right) for score in sorted(by_score, reverse=True) for _, _, left, right in sorted(by_score[score])]


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a protocol buffer message; 32- and 64-bit values stay bytes."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    try:
        while position < len(data):
            key = varint()
            number, wire = key >> 3, key & 7
            if wire == 0:
                yield number, varint()
                continue
            size = {1: 8, 5: 4}.get(wire)
            if wire == 2:
                size = varint()
            if size is None or position + size > len(data):
                raise ValueError(f"no field of kind {wire} can be at byte {position}")
            yield number, data[position : position + size]
            position += size
    except IndexError as error:
        raise ValueError("the file ends inside a field") from error
