"""Count the words of files: one master, 10 workers, 30 map jobs, then 60 reduce jobs.

    python examples/wordcount.py FILE... [--workers 10] [--map-jobs 30] [--reduce-jobs 60]
                                 [--top 20] [--out DIR] [--letters] [--kill-worker] [--json]

This is the whole program; what reads the options and shows the bars is `paramserver wordcount`.
"""

import sys

import paramserver as ps
from paramserver.commands.wordcount import main


def word_count(letters):
    # count_words(block) is Counter(block.lower().split()), at several times the speed; any function
    # of a block of whole words that returns counts, or yields (key, value) pairs, could stand here.
    mapper = ps.count_letters if letters else ps.count_words
    return ps.MapReduce(mapper, sum, unit="words")


if __name__ == "__main__":
    sys.exit(main(make_program=word_count))
