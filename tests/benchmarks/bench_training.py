"""Both training modes, their peers and the machine's limits: ``make bench-training``.

Rows 5 to 9 move vectors and compute nothing; rows 10 to 13 train to a score; row 16 is the first
command of a new user. See `suite` for how they are run.
"""

from tests.benchmarks import suite
from tests.benchmarks.rows import TRAINING

QUICK = [key for key in TRAINING if key not in ("6", "8")]
"""Those left out are others with another size, and a quick run changes the sizes."""

if __name__ == "__main__":
    suite.main("training", TRAINING, __doc__, quick_keys=QUICK)
