//! Ranges of the export.

/// A range of the export: offset and length in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}
