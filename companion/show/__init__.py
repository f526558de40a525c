"""What the pages show: claims and figures."""
