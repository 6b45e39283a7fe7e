"""The decision step, the njit kernel and what they return."""
