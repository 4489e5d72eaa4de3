//! Block sizes.

use crate::wire::ProtocolError;

/// The block sizes that a server advertises ("Size constraints").
///
/// With the feature `serde` they are written as `minimum`, `preferred` and `maximum`. What no server
/// may advertise is refused when it is read.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct BlockSize {
    /// The minimum block size in bytes: offset and length of every request are multiples of it.
    #[doc(alias = "LIBNBD_SIZE_MINIMUM")]
    pub minimum: u32,
    /// The preferred block size in bytes: multiples of it are efficient.
    #[doc(alias = "LIBNBD_SIZE_PREFERRED")]
    pub preferred: u32,
    /// The largest payload of one request, in bytes; `u32::MAX` means no limit.
    #[doc(alias = "LIBNBD_SIZE_MAXIMUM")]
    pub maximum: u32,
}

impl BlockSize {
    /// Checks the block sizes that a server advertises.
    ///
    /// # Errors
    /// If they contradict each other or are out of range.
    pub(crate) fn new(minimum: u32, preferred: u32, maximum: u32) -> Result<Self, ProtocolError> {
        // P-120: block sizes are powers of two in order.
        let sane = minimum.is_power_of_two()
            && minimum <= 1 << 16
            && preferred.is_power_of_two()
            && preferred >= minimum.max(512)
            && maximum >= preferred;
        if sane {
            Ok(Self {
                minimum,
                preferred,
                maximum,
            })
        } else {
            Err(ProtocolError::BlockSizes {
                minimum,
                preferred,
                maximum,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // P-120: block sizes are powers of two in order.
    #[test]
    fn impossible_block_sizes_are_refused() {
        for (minimum, preferred, maximum) in [
            (0, 4096, 1 << 20),
            (3, 4096, 1 << 20),
            (1 << 17, 1 << 17, 1 << 20),
            (4096, 512, 1 << 20),
            (1, 256, 1 << 20),
            (1, 4096, 2048),
            (1, 4096, 1),
        ] {
            assert!(
                BlockSize::new(minimum, preferred, maximum).is_err(),
                "{minimum}"
            );
        }
        assert!(BlockSize::new(4096, 65536, u32::MAX).is_ok());
        assert!(BlockSize::new(1, 4096, 1 << 25).is_ok());
        // The maximum may be anything.
        assert!(BlockSize::new(4096, 4096, 10_000).is_ok());
    }
}
