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

# Everything that must pass before a change lands
ci:
    .ci/run
