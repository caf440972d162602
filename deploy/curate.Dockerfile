# Workers of `reelmill curate` on processors: Beam's SDK image layout, ffmpeg (inside the imageio-ffmpeg wheel), and the
# libraries of requirements.lock. From the repository:
#
#   docker build -f deploy/curate.Dockerfile -t REGISTRY/reelmill-curate .
#
# TORCH_INDEX: a package index with processor builds of torch, which spares the image gigabytes of CUDA.
# MODELS: hub names of models to put into the image, so that no worker downloads them.
ARG PYTHON_VERSION=3.11
ARG BEAM_VERSION=2.77.0
FROM apache/beam_python${PYTHON_VERSION}_sdk:${BEAM_VERSION} AS beam

FROM python:${PYTHON_VERSION}-slim
ARG TORCH_INDEX=
ARG MODELS=
ENV HF_HOME=/models OMP_NUM_THREADS=1 PIP_NO_CACHE_DIR=1
COPY --from=beam /opt/apache/beam /opt/apache/beam

WORKDIR /opt/reelmill
COPY pyproject.toml requirements.lock README.md LICENSE reelmill.py ./
RUN pip install uv \
    && uv pip install --system --no-cache ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} "$(grep -oE '^torch==[0-9.]+' requirements.lock)"
COPY schemas schemas
COPY media media
COPY curation curation
COPY tokenize_shards tokenize_shards
COPY training training
COPY beam_jobs beam_jobs
RUN uv pip install --system --no-cache --constraint requirements.lock '.[demo,gcp,s3]'
RUN for model in ${MODELS}; do hf download "${model}"; done

ENTRYPOINT ["/opt/apache/beam/boot"]
