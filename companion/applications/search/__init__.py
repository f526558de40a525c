"""Semantic search: vectors, an engine, how good a ranking is, tuning on pairs."""
