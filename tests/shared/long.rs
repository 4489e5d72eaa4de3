//! How much is done in a long run.

/// `NBD_LONG`, one if it is not set: so many times as much is done.
pub(crate) fn factor() -> usize {
    std::env::var("NBD_LONG").map_or(1, |factor| {
        factor.parse().expect("NBD_LONG must be a number")
    })
}
