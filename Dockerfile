# One image for the API, the worker, the shipper and the migrations; Compose names the command.
FROM python:3.13.9-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
COPY requirements.txt .
RUN pip install --require-hashes --no-deps --only-binary=:all: --requirement requirements.txt

FROM python:3.13.9-slim-bookworm
LABEL org.opencontainers.image.title="rein" \
      org.opencontainers.image.description="A durable AI-coaching backend on Temporal, Opik and Gemini"
RUN groupadd --gid 10001 rein && useradd --uid 10001 --gid rein --no-create-home rein
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    REIN_API_HOST=0.0.0.0 REIN_API_OPERATIONS_HOST=0.0.0.0
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY alembic.ini client.py logs.py settings.py worker.py ./
COPY activities activities
COPY api api
COPY db db
COPY domain domain
COPY examples examples
COPY llm llm
COPY prompts prompts
COPY tracing tracing
COPY workflows workflows
RUN python -m compileall -q /app
USER 10001:10001
EXPOSE 8000 8001
CMD ["python", "-m", "api"]
