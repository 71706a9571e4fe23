"""How fast the tap is, side by side with the script a person would write instead: `python -m benchmarks`."""
