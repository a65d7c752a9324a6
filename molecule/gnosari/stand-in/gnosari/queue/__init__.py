"""The part of Gnosari that runs in workers; a stand-in."""
