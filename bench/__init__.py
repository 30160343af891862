"""What MIE costs: run `python -m bench`. Apart from the product and its tests."""
