"""Size and restrict positions: sizing, protection and gates as vectors over bars, limits as one
record for the decision step.
"""
