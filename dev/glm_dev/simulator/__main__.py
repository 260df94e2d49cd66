"""`python -m glm_dev.simulator` with vLLM's own arguments."""

import sys

from glm_dev.simulator.server import main

sys.exit(main())
