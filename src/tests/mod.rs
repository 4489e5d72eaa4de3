//! Tests of the crate as a whole, and what the tests of all modules share.

mod layers;
mod libnbd;
pub(crate) mod properties;
mod rules;
