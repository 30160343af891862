"""The read API, its own process: it reads the hot and the history store and never touches ingestion."""
