"""A fast stand-in with vLLM's API: same paths, errors, metric names and parser behaviour.

Standard library only, so that its image holds nothing else. `glm_dev.simulator.server.running`
starts one inside a test; `python -m glm_dev.simulator` takes vLLM's command line. Behaviour comes
from `SIM_*` variables (see `settings.Behaviour`) and can be changed through POST /sim/behaviour.
"""
