# One image for the dataflow and, with another entry point, for the read API (compose.yaml).
FROM python:3.12-slim AS build
# A compiler for the packages that have no wheel for this processor; on x86-64 all have one.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/mie
COPY requirements/run.txt /tmp/run.txt
RUN /opt/mie/bin/pip install --no-cache-dir --require-hashes -r /tmp/run.txt

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/mie --create-home mie
COPY --from=build /opt/mie /opt/mie
WORKDIR /srv/mie
COPY market market
COPY connectors connectors
COPY operators operators
COPY sinks sinks
COPY simulator simulator
COPY flows flows
COPY api api
RUN /opt/mie/bin/python -m compileall -q .
USER mie
VOLUME /var/lib/mie
# BYTEWAX_SNAPSHOT_INTERVAL: epochs of 1 s. BYTEWAX_DATAFLOW_API_CACHE_PATH: where Bytewax writes dataflow.json if its
# own web server is switched on; the working directory is not writable.
ENV PATH=/opt/mie/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MIE_FEED=live \
    MIE_DATA_DIR=/var/lib/mie \
    BYTEWAX_SNAPSHOT_INTERVAL=1 \
    BYTEWAX_DATAFLOW_API_CACHE_PATH=/var/lib/mie
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=90s --retries=3 CMD ["python", "-m", "flows.health"]
ENTRYPOINT ["python", "-m", "bytewax.run", "flows.mie"]
