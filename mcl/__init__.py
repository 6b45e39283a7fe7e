"""mcl: a configuration-as-code experiment harness for Micro WTI Crude Oil futures."""

__version__ = "0.1.0"
DISTRIBUTION = "mcl-harness"  # what pip knows it by; `mcl` on the public index is another project
