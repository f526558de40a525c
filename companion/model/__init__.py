"""Token ids to vectors and scores: embeddings, attention, encoder, heads, and their weights on disk."""
