"""How attacks take a step: along a gradient, within a budget, onto a hyperplane."""
