"""A small Celery app: what a back end that makes reports would look like."""
