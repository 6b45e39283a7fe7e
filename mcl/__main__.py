"""`python -m mcl`."""

import sys

from mcl.cli.main import main

sys.exit(main())
