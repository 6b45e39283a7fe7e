"""How much, and when not: sizing, protection and gates as vectors over bars, limits as one record
for the decision step.
"""
