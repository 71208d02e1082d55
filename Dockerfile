# Images to train with, to serve with and for workers (docs/containers.md); nothing is fetched when they run.
#
#   docker build --target serve -t fer_tf-serve:0.2.0 .
#   docker build --target train -t fer_tf-train:0.2.0 --build-arg EXTRAS=gpu .
#   docker build --target worker -t REGION-docker.pkg.dev/PROJECT/fer-tf/worker:1 --build-arg EXTRAS=gcp .
#
# Beam's own image gives the program that starts workers; its version is that of constraints.txt.
ARG PYTHON=3.11
ARG BASE=3.11.14-slim-bookworm
ARG BEAM=2.77.0
FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS beam

FROM python:${BASE} AS packages
# Of setup.cfg: gpu brings NVIDIA's libraries, gcp Beam's half for Google Cloud.
ARG EXTRAS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /opt/fer_tf
# The packages first: they change less often than the code, and this layer is the large one.
# av brings FFmpeg, mtcnn its weights, face_recognition_models dlib's 68 points, dlib-bin needs no compiler.
COPY setup.cfg setup.py pyproject.toml constraints.txt constraints-gpu.txt README.md LICENSE ./
COPY fer_tf/__init__.py fer_tf/__init__.py
COPY samples/README.md samples/README.md
COPY models/pretrained/spec.json models/pretrained/spec.json
COPY models/ferplus/spec.json models/ferplus/spec.json
RUN pip install -c constraints.txt setuptools wheel \
    && pip install -c constraints.txt -c constraints-gpu.txt ".[${EXTRAS}]"
COPY . .
RUN pip install -c constraints.txt --no-deps --no-build-isolation --force-reinstall .

FROM python:${BASE} AS base
RUN useradd --uid 10001 --create-home fer_tf && install -d -o fer_tf -g fer_tf /app
COPY --from=packages /opt/venv /opt/venv
# Caches go where a read-only container still writes.
ENV PATH=/opt/venv/bin:$PATH MPLCONFIGDIR=/tmp XDG_CACHE_HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /app

FROM base AS serve
EXPOSE 8500 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/readyz', timeout=4)"]
ENTRYPOINT ["python", "-m", "serving.server"]
CMD ["--host=0.0.0.0", "--port=8500", "--rest_api_port=8501"]

# A worker on Dataflow, on Flink or of training.
FROM base AS worker
USER 0
COPY cluster /opt/fer_tf/cluster
COPY samples/take_1/P001/happy/front.mp4 /opt/fer_tf/front.mp4
COPY --from=beam /opt/apache/beam /opt/apache/beam
USER 10001:10001
# Beam's program would make an environment of its own, for which it needs to be root.
ENV PYTHONPATH=/opt/fer_tf RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
# With the network off: weights, predictor and decoder must all be inside.
RUN --network=none python -m cluster.check_worker /opt/fer_tf/front.mp4
HEALTHCHECK NONE
ENTRYPOINT ["/opt/apache/beam/boot"]

# The last is what `docker build` makes without --target.
FROM base AS train
# A training that ends is done, and one that is stopped goes on when it is started again.
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "trainer.task"]
CMD ["--task=er_ss"]
