"""Venues: pure modules, one session, one collector process, the sources over them."""
