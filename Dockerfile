# One image for CPU and GPU: the wheels of torch decide. docs/docker.md has the commands.
#   docker build -t medsgssl .                                       CUDA wheels, used with --gpus all
#   docker build -t medsgssl:cpu --build-arg TORCH_INDEX=ADDRESS .   CPU wheels, from PyTorch's index
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
ARG TORCH_INDEX=""
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The dependencies first: a change of the source leaves this layer, gigabytes of wheels, alone.
COPY pyproject.toml constraints.txt ./
RUN python -m venv /opt/venv \
 && python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > requirements.txt \
 && /opt/venv/bin/pip install --constraint constraints.txt \
      ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} --requirement requirements.txt
COPY README.md LICENSE hatch_build.py ./
COPY src ./src
RUN /opt/venv/bin/pip install --no-deps .

FROM ${BASE}
# Any user may write here, so that `--user "$(id -u):$(id -g)"` works, and volumes that Docker makes
# take these permissions over.
RUN install -d -m 1777 /out /cache
COPY --from=build /opt/venv /opt/venv
# A user without an entry in /etc/passwd has neither a home nor a name.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    USER=medsgssl \
    XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    MPLCONFIGDIR=/cache/matplotlib
USER 10001:10001
WORKDIR /out
VOLUME ["/out", "/cache"]
ENTRYPOINT ["medsgssl"]
CMD ["--help"]
