"""What runs the benchmark programs: contestants, databases, measuring, reporting."""
