"""Migrations of the history tables, run by `sinks.migrate`."""
