"""The job core and its peers side by side: ``make bench-core``. See `suite` for how."""

from tests.benchmarks import suite
from tests.benchmarks.rows import CORE

if __name__ == "__main__":
    suite.main("core", CORE, __doc__)
