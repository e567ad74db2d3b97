# CPU image; for GPUs build with --build-arg BASE=<a CUDA runtime image with Python 3.11 or newer>.
#   docker build -t medsgssl .
#   docker run --rm --shm-size=2g -v /data/nih:/data:ro -v "$PWD/out:/out" medsgssl \
#     run guided-crop --data /data --out /out/guided-crop
# Loader workers hand batches over through /dev/shm, and Docker's default of 64 MB is too small for
# that: keep --shm-size (or --ipc=host). medsgssl warns where it is too small.
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv /opt/venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM ${BASE}
RUN useradd --create-home --uid 1000 medsgssl && install -d -o medsgssl /out /cache
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH XDG_CACHE_HOME=/cache
USER medsgssl
WORKDIR /out
ENTRYPOINT ["medsgssl"]
CMD ["--help"]
