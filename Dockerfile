# The three images. Any builder works: buildah bud --target operator . | docker build --target operator .
#   operator  reconciles LLMServing resources
#   agent     runs beside each engine; carries the vLLM plug-in for the init container to copy
#   engine    a small Python with the lab's simulated device; vLLM itself comes in by a volume (real cards use vLLM's own image)
# PYTHON_IMAGE is what runs; BUILD_IMAGE is the same Python with pip. Both may be the same public image.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG BUILD_IMAGE=docker.io/library/python:3.11-slim-bookworm

# ---- build stages: nothing of them is left in the images but what is copied out
FROM ${BUILD_IMAGE} AS build
# An index or certificates of one's own come in as build arguments of these names.
ARG PIP_INDEX_URL
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/build.txt /requirements/
RUN python3 -m pip install --quiet --require-hashes --target /build -r /requirements/build.txt
ENV PYTHONPATH=/build

FROM build AS operator-packages
COPY requirements/operator.txt /requirements/
RUN python3 -m pip install --quiet --require-hashes --no-deps --only-binary :all: --target /opt/llmserving/packages -r /requirements/operator.txt
COPY api /src/api
COPY operator /src/operator
RUN python3 -m pip install --quiet --no-deps --no-build-isolation --target /opt/llmserving/members /src/api /src/operator

FROM build AS agent-packages
COPY requirements/agent.txt /requirements/
RUN python3 -m pip install --quiet --require-hashes --no-deps --only-binary :all: --target /opt/llmserving/packages -r /requirements/agent.txt
COPY api /src/api
COPY agent /src/agent
RUN python3 -m pip install --quiet --no-deps --no-build-isolation --target /opt/llmserving/members /src/api /src/agent
COPY engine /src/engine
RUN python3 -m pip install --quiet --no-deps --no-build-isolation --target /opt/llmserving/plugin-source /src/engine

FROM build AS engine-packages
# Only the parts of the lab that run inside the engine.
COPY lab/pyproject.toml /src/lab/
COPY lab/src/llmserving_lab/__init__.py /src/lab/src/llmserving_lab/
COPY lab/src/llmserving_lab/device /src/lab/src/llmserving_lab/device
COPY lab/src/llmserving_lab/model /src/lab/src/llmserving_lab/model
COPY lab/src/llmserving_lab/nvml /src/lab/src/llmserving_lab/nvml
RUN python3 -m pip install --quiet --no-deps --no-build-isolation --target /opt/llmserving/members /src/lab

# ---- what the images share: PYTHONSAFEPATH keeps the working directory off the import path
FROM ${PYTHON_IMAGE} AS runtime
ENV PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /
USER 65532:65532

FROM runtime AS service
ENV PYTHONPATH=/opt/llmserving/members:/opt/llmserving/packages \
    PATH=/opt/llmserving/members/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

FROM service AS operator
COPY --from=operator-packages /opt/llmserving/packages /opt/llmserving/packages
COPY --from=operator-packages /opt/llmserving/members /opt/llmserving/members
ENTRYPOINT ["llmserving-operator"]

FROM service AS agent
COPY --from=agent-packages /opt/llmserving/packages /opt/llmserving/packages
COPY --from=agent-packages /opt/llmserving/plugin-source /opt/llmserving/plugin-source
COPY --from=agent-packages /opt/llmserving/members /opt/llmserving/members
ENTRYPOINT ["llmserving-agent"]

FROM runtime AS engine
ENV HOME=/tmp
USER 0:0
# By a .pth file, because pods set PYTHONPATH to the plug-in's volume.
RUN python3 -c "import pathlib, site; pathlib.Path(site.getsitepackages()[0], 'engine.pth').write_text('/opt/llmserving/members\nimport site; site.addsitedir(\"/opt/vllm/site-packages\")\n')"
COPY lab/image/vllm /usr/local/bin/vllm
COPY --from=engine-packages /opt/llmserving/members /opt/llmserving/members
USER 65532:65532
ENTRYPOINT ["vllm", "serve"]
