"""The dataflow page, what it is wired to, and the launcher that shows it."""
