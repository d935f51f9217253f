# The tasks of the project. `just` lists them; each is also a plain command you can run without just.

_list:
    @just --list --unsorted

# run a graph with an optimised build: just run config-examples/hello.yaml
run *args:
    cargo run --release --quiet -p weir-cli -- run {{ args }}

# a running example with everything it needs inside the process
demo *args:
    scripts/demo {{ args }}

# format, lints, tests without a service, docs, configuration examples
test:
    scripts/test embedded

# the tests against a real Kafka, started here or given by KAFKA_BOOTSTRAP_SERVERS
test-real:
    scripts/test real

# weir, a bare librdkafka loop and other engines side by side; --records 2000000 --runs 1 for a first look
bench *args:
    scripts/setup bench
    benches/pipelines/run {{ args }}

# the stated counts: the simulation at length, from a seed of your choice, then the binary against a real Kafka
campaign schedules="100000" seed="0":
    WEIR_SIMULATIONS={{ schedules }} WEIR_SIMULATION_SEED={{ seed }} cargo test --release --workspace --lib simulator -- --nocapture
    scripts/test campaign

# the container image, with docker or podman: just image build, just image check
image *args:
    scripts/image {{ args }}

# the book in target/book and the API documentation in target/doc, with warnings as errors
docs:
    scripts/test docs
    @echo "the book: file://{{ justfile_directory() }}/target/book/index.html"

# write anew what is generated and reviewed: the reference, pictures, texts of errors, tables of presets
bless:
    WEIR_BLESS=1 cargo test --release --workspace --lib --test config_golden --test reference --test picture

# rewrite the sources in the project's format
fmt:
    cargo fmt --all

# clippy, and shellcheck on every script
lint:
    cargo clippy --release --workspace --all-targets -- -D warnings
    shellcheck -x scripts/* .ci/run tests/services/kafka tests/services/prometheus tests/services/schema-registry tests/services/alertmanager tests/services/filebeat tests/services/elasticsearch tests/services/lib.sh config-examples/service-logs/consume benches/pipelines/peers/*/build
