"""A long run of the whole flow under faults, and an account of every trade at its end."""
