"""Notices that are sent later."""
