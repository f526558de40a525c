"""Text to token ids: words, a vocabulary, WordPiece, windows, the tokenizer."""
