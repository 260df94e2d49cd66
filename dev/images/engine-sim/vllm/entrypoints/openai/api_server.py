"""Starts the engine simulator where an engine pod starts vLLM."""

import sys

from glm_dev.simulator.server import main

sys.exit(main())
