"""Is it real? Everything that can be asked of a run or a search without spending money on the
answer.

`core.validate` asks all of it and gives a verdict table, `critique.critique` ranks what is
suspicious about one run, `choose.choose` picks from a search by plateau instead of by peak. None of
them ever shows a search a bar of the hold-out.
"""
