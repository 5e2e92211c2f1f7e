"""The page about the wire format says what the codec does, byte for byte."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

import paramserver.protocol
from paramserver.protocol import calls, codec, messages
from paramserver.protocol.arrays import ITEM_BYTES, MAX_NDIM, unpack_plain
from paramserver.protocol.messages import MESSAGE_TYPES, Envelope, Message, Outcome, PayloadKind

PAGE = (Path(inspect.getfile(paramserver.protocol)).parent / "wire.md").read_text()
EXAMPLE = re.compile(
    r"^(?P<number>\d+) (?P<name>\w+)\n\n"
    r"(?P<value>(?: {4}(?!frame).*\n)+)(?P<frames>(?: {4,}.*\n?)+)",
    re.MULTILINE,
)
EXAMPLES = {match["name"]: match for match in EXAMPLE.finditer(PAGE)}


def evaluate(text: str) -> object:
    """Evaluate an expression of the page with the names of `messages`."""
    tree = ast.parse("(" + text.strip() + ")", mode="eval")
    return eval(compile(tree, "<wire.md>", "eval"), vars(messages))


def envelope() -> Envelope:
    (line,) = re.findall(r"^ {4}(Envelope\(.*\))$", PAGE, re.MULTILINE)
    value = evaluate(line)
    assert isinstance(value, Envelope)
    return value


def frames_of(text: str) -> list[bytes]:
    frames = []
    for part in re.split(r"frame \d+:", text)[1:]:
        many = re.fullmatch(r"\s*([0-9a-f]{2}) \* (\d+)\s*", part)
        frames.append(
            bytes.fromhex(many[1]) * int(many[2]) if many else bytes.fromhex("".join(part.split()))
        )
    return frames


def test_the_page_has_an_example_of_every_message_under_its_number() -> None:
    assert {int(e["number"]): name for name, e in EXAMPLES.items()} == {
        number: kind.__name__ for number, kind in MESSAGE_TYPES.items()
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_the_codec_writes_and_reads(name: str) -> None:
    message = evaluate(EXAMPLES[name]["value"])
    shown = frames_of(EXAMPLES[name]["frames"])
    assert type(message).__name__ == name
    typed: Message = message  # type: ignore[assignment]

    assert [bytes(frame) for frame in codec.encode(envelope(), typed)] == shown
    assert codec.decode(shown, frozenset({type(message)})) == (envelope(), message)


def test_calls_are_written_as_the_page_says() -> None:
    def call(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
        return args[args[:1] == (inputs,) :], kwargs, args[:1] == (inputs,)

    inputs = object()
    rows = re.findall(r"^\| `json.dumps(\(.*\))` \| `(\(.*\))` \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for shown_call, shown in rows:
        args, kwargs, wants_inputs = eval(
            f"call{shown_call}", {"call": call, "inputs": inputs, "json": json}
        )
        payload = calls.encode_call(
            json.dumps, args, kwargs, trusted=False, wants_inputs=wants_inputs
        )
        assert unpack_plain(payload.data, payload.buffers) == ast.literal_eval(shown)


def test_the_limits_on_the_page_are_the_limits() -> None:
    shown = {name: int(n) for name, n in re.findall(r"^\| (\w+) \| (\d+) \|", PAGE, re.MULTILINE)}

    assert shown == dataclasses.asdict(codec.DEFAULT_LIMITS)


def test_version_kinds_outcomes_and_array_types_on_the_page_are_the_real_ones() -> None:
    words = " ".join(PAGE.split())

    assert f"The wire format, version {codec.PROTOCOL_VERSION}" in words
    assert f"{codec.MAGIC.hex(' ')} | {codec.PROTOCOL_VERSION:02x}" in words
    assert "Kinds: " + ", ".join(f"{kind.value} {kind.name}" for kind in PayloadKind) in words
    assert "Outcomes: " + ", ".join(f"{o.value} {o.name}" for o in Outcome) in words
    assert " ".join(ITEM_BYTES) in words
    assert f"at most {MAX_NDIM} dimensions" in words
