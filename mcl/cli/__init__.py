"""The handlers behind `mcl VERB`: call one workflow, show its answer. Each returns the exit
code.
"""
