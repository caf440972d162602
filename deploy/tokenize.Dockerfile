# Workers of `reelmill tokenize`, and of captions and scores, on GPUs: Beam's SDK image layout, ffmpeg (inside the
# imageio-ffmpeg wheel), and the libraries of requirements.lock, with torch's CUDA build. The driver is the machine's.
# From the repository:
#
#   docker build -f deploy/tokenize.Dockerfile -t REGISTRY/reelmill-tokenize .
#
# MODELS: hub names of models to put into the image, so that no worker downloads them.
ARG PYTHON_VERSION=3.11
ARG BEAM_VERSION=2.77.0
FROM apache/beam_python${PYTHON_VERSION}_sdk:${BEAM_VERSION} AS beam

FROM python:${PYTHON_VERSION}-slim
ARG MODELS=
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
ENV HF_HOME=/models OMP_NUM_THREADS=1 PIP_NO_CACHE_DIR=1
COPY --from=beam /opt/apache/beam /opt/apache/beam

WORKDIR /opt/reelmill
COPY pyproject.toml requirements.lock README.md LICENSE reelmill.py ./
RUN pip install uv \
    && uv pip install --system --no-cache "$(grep -oE '^torch==[0-9.]+' requirements.lock)"
COPY schemas schemas
COPY media media
COPY curation curation
COPY tokenize_shards tokenize_shards
COPY training training
COPY beam_jobs beam_jobs
RUN uv pip install --system --no-cache --constraint requirements.lock '.[demo,gcp,s3]'
RUN for model in ${MODELS}; do hf download "${model}"; done

ENTRYPOINT ["/opt/apache/beam/boot"]
