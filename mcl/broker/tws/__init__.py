"""An embedded simulated TWS: speaks the TWS text protocol on loopback, plays a session of bars and trades against them."""

from mcl.broker.tws.feed import Tape
from mcl.broker.tws.server import SimulatedTWS

__all__ = ["SimulatedTWS", "Tape"]
