"""What happens when processes die, clocks step and servers go away.

`make test` runs the most telling of each; with REGISTRY_FAULTS=all (`make faults`) all run, and longer.
"""

import os

ALL = os.environ.get("REGISTRY_FAULTS") == "all"
