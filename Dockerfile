FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/mayday \
 && /opt/mayday/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY exporter ./exporter
RUN site=$(/opt/mayday/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
 && cp -r exporter "$site/" \
 && printf '#!/opt/mayday/bin/python\nimport sys\nfrom exporter.cli import main\nsys.exit(main())\n' > /opt/mayday/bin/mayday \
 && chmod +x /opt/mayday/bin/mayday \
 && install -d -o 65532 -g 65532 /state

FROM python:3.12-slim
LABEL mayday.sidecar="true" \
      org.opencontainers.image.title="mayday" \
      org.opencontainers.image.description="Keeps engines behind redundant VPN containers available when a VPN fails" \
      org.opencontainers.image.licenses="MIT"
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
