"""A stand-in for Gnosari; see the README."""
