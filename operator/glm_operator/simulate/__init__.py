"""`glm-operator simulate`: engines, cold starts and traffic in simulated time, scaled by laws."""
