"""Brings checkpoints to where engines read them, and tells what they are: `glm-weights`.

The hub's client reads its settings when it is imported, so they are made here. What the user's
Secret sets wins.
"""

import os

os.environ.setdefault("HF_HOME", "/tmp/huggingface")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
