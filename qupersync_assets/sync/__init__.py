"""A sync without Dagster: which jobs are on, when they are due, how one is loaded, and the results of its checks."""
