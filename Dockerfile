# The service: API, verifiers, no compiler, no package manager's leftovers, an ordinary user.
#
#     docker build -t reward-service .
#
# BASE is any Debian 12 or newer image; CA_BUNDLE a file of this folder with certificates for a proxy that opens TLS, used while building
# and in no layer of the result; PIP_INDEX_URL a mirror of the package index.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS packages
ARG CA_BUNDLE=deploy/no-ca-bundle.pem
ARG PIP_INDEX_URL=
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends python3 python3-venv ca-certificates >/dev/null
COPY ${CA_BUNDLE} /tmp/ca.pem
COPY requirements.lock /tmp/
RUN if [ -s /tmp/ca.pem ]; then export PIP_CERT=/tmp/ca.pem; fi; \
    if [ -z "$PIP_INDEX_URL" ]; then unset PIP_INDEX_URL; fi; \
    python3 -m venv /opt/venv && /opt/venv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-compile \
        --require-hashes --requirement /tmp/requirements.lock \
    && /opt/venv/bin/python -m pip uninstall --quiet --yes pip setuptools

FROM ${BASE}
LABEL org.opencontainers.image.title="reward-service" \
      org.opencontainers.image.description="Grades completions of language models and returns the reward" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends python3 tzdata >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt \
    && groupadd --gid 10000 reward && useradd --uid 10002 --gid 10000 --home-dir /var/lib/reward --no-create-home --shell /usr/sbin/nologin reward \
    && install -d -m 0700 -o 10002 -g 10000 /var/lib/reward /var/lib/reward/testsets
COPY --from=packages /opt/venv /opt/venv
COPY sandbox /opt/venv/lib/python3/site-packages/sandbox
COPY reward_service /opt/venv/lib/python3/site-packages/reward_service
COPY LICENSE NOTICE /usr/share/doc/reward-service/
# the packages stand where the interpreter of this base looks for them; nothing is compiled or resolved when it starts
RUN version="$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')" \
    && cp -r /opt/venv/lib/python3/site-packages/. "/opt/venv/lib/$version/site-packages/" && rm -r /opt/venv/lib/python3 \
    && printf '#!/opt/venv/bin/python -P\nfrom reward_service.cli import app\napp()\n' > /opt/venv/bin/reward-service \
    && chmod 755 /opt/venv/bin/reward-service && /opt/venv/bin/python -m compileall -q /opt/venv/lib
ENV PATH=/opt/venv/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    REWARD_TESTSET_FOLDER=/var/lib/reward/testsets
WORKDIR /var/lib/reward
USER 10002:10000
EXPOSE 8000
ENTRYPOINT ["reward-service"]
CMD ["serve"]
HEALTHCHECK --interval=5s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, sys, urllib.request as r; sys.exit(r.urlopen('http://127.0.0.1:%s/healthz' % os.environ.get('REWARD_PORT', '8000'), timeout=8).status != 200)"]
