"""What everything stands on: devices, files, finding checkpoints by name."""
