# pullpush in a container.   docker build -t pullpush .
# For a GPU:                 docker build -t pullpush:cuda --build-arg BASE=nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04 .
# Without CUDA's libraries it is much smaller: --build-arg PIP_EXTRA_INDEX_URL=..., the index of PyTorch for CPUs that its installation page names.
# A search:                  docker run -p 8000:8000 -v ./indexes:/work/indexes -e PULLPUSH_TOKEN=LETTERSANDDIGITS pullpush serve indexes/photos --host 0.0.0.0
# A run:                     docker run --gpus all -v .:/work pullpush:cuda train --data photos/ --out runs/photos
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}
ARG EXTRAS=text,search,report,export
ARG PIP_EXTRA_INDEX_URL
RUN if ! python3 -m venv /opt/pullpush 2>/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/* \
      && python3 -m venv /opt/pullpush; fi
ENV PATH=/opt/pullpush/bin:$PATH PYTHONUNBUFFERED=1 PULLPUSH_CACHE=/work/.cache
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir ".[${EXTRAS}]"
RUN useradd --create-home --uid 10001 pullpush && mkdir -p /work && chown pullpush /work
USER 10001
WORKDIR /work
EXPOSE 8000
ENTRYPOINT ["pullpush"]
CMD ["--help"]
