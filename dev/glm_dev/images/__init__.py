"""Container images without a daemon or a registry."""

from glm_dev.images.build import build_images
from glm_dev.images.errors import BuildError

__all__ = ["BuildError", "build_images"]
