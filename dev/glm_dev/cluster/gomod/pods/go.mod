module glm-operator.io/dev/pods

go 1.25.0
