"""A loopback gateway that speaks to the unmodified Databento client: the synthetic world or any
folder of DBN files, over TLS.
"""
