# One image for every process: the command line says which (`worker`, `sink`, `api`, ...).
FROM python:3.13-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --system --uid 10001 --no-create-home loyalnest && install --directory --owner=loyalnest /data
WORKDIR /app

# The packages first: they change less often than the code, so this layer is kept.
COPY requirements.txt .
RUN pip install --require-hashes -r requirements.txt

COPY pyproject.toml .
COPY events events
COPY tables tables
COPY runtime runtime
COPY books books
COPY imports imports
COPY streams streams
COPY lake lake
COPY batch batch
COPY notices notices
COPY fulfilment fulfilment
COPY api api
COPY cli cli
COPY sql sql
# Editable, as on a developer's machine: the code finds sql/ beside itself.
RUN pip install --no-build-isolation --no-deps -e .

USER loyalnest
VOLUME /data
ENTRYPOINT ["loyalnest"]
