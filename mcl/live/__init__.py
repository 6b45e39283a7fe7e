"""Trading a promoted version: the session runner, its journal, and the audit that holds it against
the backtest.
"""
