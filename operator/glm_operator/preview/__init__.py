"""`glm-operator plan`: what the planner says of an object, on nodes that are described or live."""
