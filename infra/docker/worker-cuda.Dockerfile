# syntax=docker/dockerfile:1
# The worker for boxes with NVIDIA GPUs of compute capability 8.0 and up and a driver of 580 or newer.
#   docker build -f infra/docker/worker-cuda.Dockerfile -t embed-fleet-worker .
#   docker run --gpus all -e FLEET_QUEUE -e FLEET_STORE embed-fleet-worker --run RUN --device cuda:all
# On Vast.ai, whose setup of a box needs root, build it with --build-arg RUN_AS=0, push it to a registry, and name it:
#   coordinator launch --image REGISTRY/embed-fleet-worker:1 ...
# A box then runs infra/vast/onstart in place of the entry point; it finds the worker on the path, and fetches none.
ARG CUDA=13.0.1

FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates curl pkg-config \
    && rm -rf /var/lib/apt/lists/*
RUN curl -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain 1.95.0
ENV PATH=/root/.cargo/bin:$PATH CUDA_COMPUTE_CAP=80
WORKDIR /source
COPY . .
# The driver's own library is no part of the toolkit: its stub is enough to link.
RUN LIBRARY_PATH=/usr/local/cuda/lib64/stubs cargo build --release --locked -p worker --features cuda

FROM nvidia/cuda:${CUDA}-base-ubuntu24.04
ARG RUN_AS=10001
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates curl cuda-cudart-13-0 cuda-nvrtc-13-0 libcublas-13-0 libcurand-13-0 libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 fleet
COPY --from=build /source/target/release/worker /usr/local/bin/worker
COPY --chmod=755 infra/docker/worker-entry /usr/local/bin/worker-entry
USER ${RUN_AS}
WORKDIR /home/fleet
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# A few seconds of the device's time: seldom.
HEALTHCHECK --interval=30m --timeout=2m --start-period=15m CMD ["worker", "--check"]
ENTRYPOINT ["worker-entry"]
