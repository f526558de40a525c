"""One training loop and one prediction loop: settings, schedule, optimiser, objective, exact resume."""
