"""MapReduce on the job core.

From outside: `MapReduce` and `MapReduceResult`. Inside, in the order in which data go through::

    splits, blocks     the input, cut into shares, read in blocks
    mapping            what mappers give, combined
    shuffle, columns   sorted by part, written and read
    reducing, runs     grouped and folded, on disk where memory does not do
    output, commit     results in files, all or none
    result             results in memory
    job, run           what workers do; what the user calls

    pairs, words, keys, folding, files      what these have in common
"""

from paramserver.mapreduce.result import MapReduceResult
from paramserver.mapreduce.run import MapReduce

__all__ = ["MapReduce", "MapReduceResult"]
