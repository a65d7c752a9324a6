"""A small app whose jobs are run by rq."""
