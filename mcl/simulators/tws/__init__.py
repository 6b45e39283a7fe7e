"""An embedded simulated TWS: speaks the TWS text protocol on loopback, plays a session of bars and
trades against them.
"""

from mcl.simulators.tws.server import SimulatedTWS
from mcl.simulators.tws.tape import Tape

__all__ = ["SimulatedTWS", "Tape"]
