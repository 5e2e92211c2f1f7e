"""MapReduce on the job core."""
