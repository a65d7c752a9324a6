"""A small arq app: what a back end that runs flows in the background would look like."""
