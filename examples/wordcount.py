"""Count the words of files: one master, 10 workers, 30 map jobs, then 60 reduce jobs.

    python examples/wordcount.py FILE... [--workers 10] [--map-jobs 30] [--reduce-jobs 60]
                                 [--top 20] [--out DIR] [--letters] [--kill-worker] [--json]

This is the whole program; what reads the options and shows the bars is `paramserver wordcount`.
"""

import re
import sys
from collections import Counter

import paramserver as ps
from paramserver.commands.wordcount import main


def count_words(block):  # a block of whole words, as bytes
    return Counter(block.lower().split())


def count_letters(block):
    return Counter(re.findall(rb"[a-z]+", block.lower()))


def word_count(letters):
    return ps.MapReduce(count_letters if letters else count_words, sum, unit="words")


if __name__ == "__main__":
    sys.exit(main(make_program=word_count))
