"""Pre-training: text to token ids on disk, segment pairs, masks, objectives and the run itself."""
