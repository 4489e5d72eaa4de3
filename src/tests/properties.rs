//! How many cases the properties are tested with.

use proptest::test_runner::{Config, RngSeed};

/// For properties that are fast to test. `PROPTEST_CASES` says otherwise; with `NBD_SEED` the
/// cases are the same each time.
pub(crate) fn config() -> Config {
    if cfg!(miri) {
        // It is slow, and has no files.
        return Config {
            cases: 4,
            failure_persistence: None,
            ..Config::default()
        };
    }
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => Config::default().cases,
        None => 10_000,
    };
    let rng_seed = match std::env::var("NBD_SEED") {
        Ok(seed) => RngSeed::Fixed(seed.parse().expect("NBD_SEED must be a number")),
        Err(_) => RngSeed::Random,
    };
    Config {
        cases,
        rng_seed,
        ..Config::default()
    }
}
