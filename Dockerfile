# Two images: `rein` for the API, the worker and the migrations (Compose names the command), `ship` for
# the shipper. opik brings litellm, openai and boto3; they never stand where the Gemini key is.
FROM python:3.13.9-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build

FROM build AS build-rein
COPY requirements.txt .
RUN pip install --require-hashes --no-deps --only-binary=:all: --requirement requirements.txt

FROM build AS build-ship
COPY requirements-ship.txt .
RUN pip install --require-hashes --no-deps --only-binary=:all: --requirement requirements-ship.txt

FROM python:3.13.9-slim-bookworm AS base
RUN groupadd --gid 10001 rein && useradd --uid 10001 --gid rein --no-create-home rein
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
COPY logs.py settings.py ./
COPY db db
COPY domain domain
COPY tracing tracing

FROM base AS ship
LABEL org.opencontainers.image.title="rein-ship" \
      org.opencontainers.image.description="Brings Rein's traces to Opik"
COPY --from=build-ship /opt/venv /opt/venv
RUN python -m compileall -q /app
USER 10001:10001
CMD ["python", "-m", "tracing.ship"]

FROM base AS rein
LABEL org.opencontainers.image.title="rein" \
      org.opencontainers.image.description="A durable AI-coaching backend on Temporal, Opik and Gemini"
ENV REIN_API_HOST=0.0.0.0 REIN_API_OPERATIONS_HOST=0.0.0.0
COPY --from=build-rein /opt/venv /opt/venv
COPY alembic.ini client.py worker.py ./
COPY activities activities
COPY api api
COPY examples examples
COPY llm llm
COPY prompts prompts
COPY workflows workflows
RUN python -m compileall -q /app
USER 10001:10001
EXPOSE 8000 8001
CMD ["python", "-m", "api"]
