# Commands for people who work on Equipoise. `just` lists them.

default:
    @just --list

# Train, attack and report on the embedded digits
demo:
    cargo run --release -- demo

# The README's test command
test:
    cargo test --workspace --release

# Lints as CI runs them
lint:
    cargo fmt --all -- --check
    cargo clippy --workspace --all-targets --release -- -D warnings

# The library's documentation
doc:
    cargo doc --workspace --no-deps --release --open

# The guide as a site, in target/site/book; needs what docs/site/requirements.txt names
site:
    docs/site/build

# Fuzz targets so many times as long as among the tests, with another seed; docs/reliability.md
fuzz times="50" seed="1":
    EQUIPOISE_FUZZ_TIMES={{times}} PROPTEST_RNG_SEED={{seed}} cargo test --workspace --test readers --release -- --nocapture

# So many kills of each kind of run
kill kills="200":
    EQUIPOISE_KILLS={{kills}} cargo test --workspace --test command --release -- --nocapture kill::

# Everything that must pass before a change lands
ci:
    .ci/run
