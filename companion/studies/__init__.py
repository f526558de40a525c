"""What the book measures: records of runs, costs, public tasks, ablations, speed. Nothing above imports it."""
