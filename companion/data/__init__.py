"""Text to learn from: labelled sets, plain text by documents, the documentation of Python packages."""
