"""A small Chicory app: what a service that takes in events and passes them on would look like."""
