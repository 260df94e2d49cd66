"""The page at `/` of the second port: what `/state` tells, and the latest decisions, for a person.

It changes nothing, loads nothing from anywhere, and is complete without its script.
"""

from glm_serving.gateway.page.document import HEADERS, document

__all__ = ["HEADERS", "document"]
