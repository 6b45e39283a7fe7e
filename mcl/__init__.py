"""mcl: a configuration-as-code experiment harness for Micro WTI Crude Oil futures."""

__version__ = "0.1.0"
