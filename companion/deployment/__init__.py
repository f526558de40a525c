"""From a trained network to one that runs elsewhere: so far, in a browser."""
