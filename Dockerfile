# Builds the wheel and installs just that: what runs in the image is what a release hands out.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r requirements-build.lock \
 && python -m venv --without-pip /opt/mayday \
 && /opt/build/bin/pip --python /opt/mayday/bin/python install --no-compile --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY exporter ./exporter
# Compiled here, because the finished image cannot write to itself; by hash, because a copy may change the files' times.
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
 && /opt/build/bin/pip --python /opt/mayday/bin/python install --no-compile --no-deps --no-index /dist/*.whl \
 && /opt/mayday/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/mayday/lib \
 && install -d -o 65532 -g 65532 /state

FROM ${BASE}
# The base image brings its standard library uncompiled, and every start, every health check too, would compile it anew.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(tests?|lib2to3|site-packages)/' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/mayday /opt/mayday
COPY --from=build --chown=65532:65532 /state /var/lib/mayday
ENV PATH=/opt/mayday/bin:$PATH PYTHONDONTWRITEBYTECODE=1 STATE_DIR=/var/lib/mayday
USER 65532:65532
VOLUME /var/lib/mayday
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["mayday", "health"]
ENTRYPOINT ["mayday"]
CMD ["serve"]

# Given by the release; last, so that they spoil no layer.
ARG BASE
ARG VERSION=unreleased
ARG REVISION=
ARG CREATED=
ARG SOURCE=
LABEL mayday.sidecar="true" \
      org.opencontainers.image.title="mayday" \
      org.opencontainers.image.description="Keeps engines behind redundant VPN containers available when a VPN fails" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE}"
