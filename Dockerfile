# One image for all services: Ray head, GPU workers and the commands. Built from a checkout.
FROM python:3.11-slim

# gcc compiles the optimizer kernels on the machine that runs them (trainables/optimizers/native.py).
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 lawn && mkdir /study && chown lawn /study
COPY pyproject.toml constraints.txt README.md LICENSE /app/
COPY lawn_tune /app/lawn_tune
COPY search_spaces /app/search_spaces
COPY trainables /app/trainables
COPY dashboards /app/dashboards
ARG EXTRAS=all,postgres
RUN pip install --no-cache-dir -c /app/constraints.txt "/app[$EXTRAS]"

USER lawn
WORKDIR /study
CMD ["lawn-tune", "--help"]
