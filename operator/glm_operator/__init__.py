"""The GLMDeployment operator."""
