"""`python -m registry` is the console script `synapse-registry`."""

import sys

from registry.cli import main

sys.exit(main())
