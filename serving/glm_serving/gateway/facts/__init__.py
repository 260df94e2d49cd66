"""What the gateway knows of a request, from one typed decode of the client's bytes.

Unknown fields, roles and part types pass unread: the engine judges them. What is decoded is
validated, which also bounds what a hostile body can make the gateway build. Each dialect is read
into the same conversation, and a conversation has the same facts in all of them.
"""

from __future__ import annotations

from glm_serving.gateway.facts.chat import of_chat
from glm_serving.gateway.facts.completion import of_completion
from glm_serving.gateway.facts.messages import of_messages
from glm_serving.gateway.facts.model import Facts, Opening
from glm_serving.gateway.facts.responses import of_responses

__all__ = ["Facts", "Opening", "of_chat", "of_completion", "of_messages", "of_responses"]
