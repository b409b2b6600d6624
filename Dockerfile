# One image for every role: `docker run kaskad serve`, `dispatch`, `simulate`, `check`, ...
# Build and run stage share one base, so the virtual environment can be copied as it is.

FROM python:3.11.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python -m venv /opt/kaskad
COPY requirements/run.txt requirements/build.txt requirements/
RUN /opt/kaskad/bin/pip install --require-hashes -r requirements/run.txt \
 && pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY providers providers
COPY ratelimit ratelimit
COPY config config
RUN pip wheel --no-build-isolation --no-deps --wheel-dir /wheels . \
 && /opt/kaskad/bin/pip install --no-deps --no-index --find-links /wheels kaskad

FROM python:3.11.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/kaskad kaskad \
 && install -d -o kaskad /var/lib/kaskad/reports
COPY --from=build /opt/kaskad /opt/kaskad
COPY config /etc/kaskad
# Mount your own configuration somewhere and name it here; compose.toml is the default that listens on every interface.
ENV PATH=/opt/kaskad/bin:$PATH PYTHONUNBUFFERED=1 KASKAD_CONFIG=/etc/kaskad/compose.toml
USER 10001
WORKDIR /var/lib/kaskad
EXPOSE 8080
# Right for `serve`; compose.yaml gives the other roles a check of their own. It asks whether the process lives: that Redis is
# away (/readyz) is no reason to start it again.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=3)"]
ENTRYPOINT ["kaskad"]
CMD ["serve"]
