"""A text to count words in: synthetic, English-like, the same bytes on every machine.

What is English about it: the commonest 100 words, word frequencies by Zipf and Mandelbrot, short
frequent and long rare words, capitals after full stops, punctuation stuck to words, lines of some
twelve words. 90 MB hold 1.17 million distinct words (as `bytes.lower().split()` sees them), as
many as the collection of real English texts that the goals were set on.
What is not: the rare words are strings of syllables, and no word depends on the one before.

Run as a script it writes such a file: ``python tests/benchmarks/corpus.py FILE N_BYTES [SEED]``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

VERSION = 2
"""Part of the cached file's name; goes up when the same seed would give other bytes."""
N_WORDS = 3_000_000
EXPONENT, SHIFT = 1.17, 2.7
"""p(rank) ~ 1 / (rank + SHIFT) ** EXPONENT; the exponent is set by the 1.17 million of 90 MB."""
STEP = 1_000_003
TOKENS_AT_A_TIME = 500_000
COMMON_WORDS = """
the of and to a in is it you that he was for on are with as i his they be at one have this from or
had by hot but some what there we can out other were all your when up use word how said an each she
which do their time if will way about many then them would write like so these her long make thing
see him two has look more day could go come did my sound no most number who over know water than
call first people may down side been now find
"""
ENDINGS = [b" ", b"\n", b", ", b". ", b"; ", b".\n"]
ENDING_SHARES = [0.80, 0.07, 0.06, 0.05, 0.01, 0.01]


def corpus(path: str | os.PathLike[str], n_bytes: int, seed: int = 0) -> Path:
    """Write exactly `n_bytes` of text to `path`; the same bytes for the same seed.

    The file appears whole or not at all. About 10 MB a second.
    """
    path = Path(path)
    rng = np.random.default_rng([VERSION, seed])
    words = _vocabulary(rng)
    cumulated = np.cumsum((np.arange(N_WORDS) + 1 + SHIFT) ** -EXPONENT)
    cumulated /= cumulated[-1]
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    left = n_bytes
    with unfinished.open("wb") as file:
        while left:
            left -= file.write(_some_text(rng, words, cumulated)[:left])
    unfinished.rename(path)
    return path


def cached_corpus(n_bytes: int, seed: int = 0) -> Path:
    """Return the path of such a text in the temporary folder, written when it is not there yet."""
    folder = Path(tempfile.gettempdir()) / f"paramserver-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"corpus-v{VERSION}-{n_bytes}-{seed}.txt"
    return path if path.exists() else corpus(path, n_bytes, seed)


def _vocabulary(rng: np.random.Generator) -> np.ndarray:
    """All words by rank: the common ones, then strings of two syllables, then of three."""
    consonants, vowels = "bcdfghklmnprstvz", "aeiou"
    open_ones = [a + b for a in consonants for b in vowels]
    syllables = np.array(open_ones + [o + c for o in open_ones for c in consonants], dtype="S3")
    common = COMMON_WORDS.split()
    n_left = N_WORDS - len(common)
    parts = [np.array(common, dtype="S8")]
    length = 2
    while n_left:
        n_possible = len(syllables) ** length
        n_of_this_length = min(n_left, n_possible)
        # Each number once, in a mixed order: STEP is a prime, and no factor of n_possible.
        numbers = (rng.integers(n_possible) + np.arange(n_of_this_length) * STEP) % n_possible
        made = syllables[numbers % len(syllables)]
        for _ in range(length - 1):
            numbers //= len(syllables)
            made = np.char.add(made, syllables[numbers % len(syllables)])
        parts.append(made)
        n_left -= n_of_this_length
        length += 1
    return np.concatenate(parts)


def _some_text(rng: np.random.Generator, words: np.ndarray, cumulated: np.ndarray) -> bytes:
    ranks = np.searchsorted(cumulated, rng.random(TOKENS_AT_A_TIME))
    chosen = words[ranks]
    endings = rng.choice(len(ENDINGS), TOKENS_AT_A_TIME, p=ENDING_SHARES)
    starts_sentence = np.flatnonzero((endings == 3) | (endings == 5))[:-1] + 1
    chosen[starts_sentence] = np.char.capitalize(chosen[starts_sentence])
    pieces = [b""] * (2 * TOKENS_AT_A_TIME)
    pieces[0::2] = chosen.tolist()
    pieces[1::2] = [ENDINGS[which] for which in endings.tolist()]
    return b"".join(pieces)


if __name__ == "__main__":
    print(corpus(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:4])))
