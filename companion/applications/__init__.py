"""Applications: thin compositions of a pre-trained or fine-tuned BERT."""
