"""Column kernels, and thin Bytewax steps over them."""
