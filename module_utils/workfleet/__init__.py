"""Shared code of the collection: no Ansible in here, standard library only, Python 3.9 or newer."""
