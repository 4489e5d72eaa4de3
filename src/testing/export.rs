//! One export: its bytes, what it says of itself, and what was asked of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::wire::option::ExportInfo;
use crate::wire::request::RequestHead;
use crate::wire::{ReplyStyle, TransmissionFlags};

use super::context::ExportContext;
use super::counters::{Counters, Counts};
use super::pages::{PAGE, Pages, Piece};

/// An in-memory export: sparse, of any size up to 2⁶³ − 1 bytes.
///
/// A cheap handle: clones share contents, counters and log, so that a test can keep one and give
/// another to the [`Server`](super::Server). The setters change only the handle they are called
/// on: use them before handing it out.
///
/// # Examples
/// ```
/// use nbd_client::testing::{Export, Server};
///
/// let disk = Export::new(1 << 40).description("scratch").block_sizes(512, 4096, 1 << 20);
/// disk.write(4096, b"hello");
/// let server = Server::new(disk.clone());
/// // … a client of `server` reads and writes …
/// assert_eq!(disk.contents(4096, 5), b"hello");
/// assert_eq!(disk.counters().writes, 0);
/// # drop(server);
/// ```
#[derive(Clone)]
pub struct Export {
    settings: Arc<Settings>,
    state: Arc<ExportState>,
}

/// What the export says of itself; fixed once it is served.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) size: u64,
    pub(super) description: String,
    pub(super) read_only: bool,
    pub(super) flags: Option<TransmissionFlags>,
    pub(super) blocks: BlockSizes,
    pub(super) fast_zero: bool,
    pub(super) max_unfragmented: u32,
    pub(super) contexts: Vec<Arc<ExportContext>>,
    log: usize,
}

/// Size constraints of an export, in bytes ("Size constraints").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct BlockSizes {
    pub(super) minimum: u32,
    pub(super) preferred: u32,
    pub(super) maximum: u32,
}

#[derive(Debug, Default)]
struct ExportState {
    pages: Pages,
    counts: Counts,
    // The heads of the latest requests. It has a lock of its own, because it is rarely used.
    log: Mutex<VecDeque<RequestHead>>,
}

impl Export {
    /// An export of `size` bytes, all of them a hole.
    ///
    /// # Panics
    /// If `size` is over 2⁶³ − 1.
    #[must_use]
    pub fn new(size: u64) -> Self {
        assert!(i64::try_from(size).is_ok(), "export of {size} bytes");
        Self {
            settings: Arc::new(Settings {
                size,
                description: String::new(),
                read_only: false,
                flags: None,
                blocks: BlockSizes {
                    minimum: 1,
                    preferred: 4096,
                    maximum: 32 << 20,
                },
                fast_zero: true,
                max_unfragmented: 1 << 30,
                contexts: vec![Arc::new(ExportContext::allocation())],
                log: 0,
            }),
            state: Arc::default(),
        }
    }

    /// An export that holds `contents`, and nothing else.
    #[must_use]
    pub fn from_contents(contents: impl AsRef<[u8]>) -> Self {
        let contents = contents.as_ref();
        let export = Self::new(contents.len() as u64);
        export.write(0, contents);
        export
    }

    /// Sets the description for humans that `LIST`, `INFO` and `GO` report.
    #[must_use]
    pub fn description(self, description: impl Into<String>) -> Self {
        self.with(|settings| settings.description = description.into())
    }

    /// Makes the export read-only: whatever would change it fails with `EPERM`.
    #[must_use]
    pub fn read_only(self, read_only: bool) -> Self {
        self.with(|settings| settings.read_only = read_only)
    }

    /// Announces exactly these transmission flags, instead of those that fit.
    ///
    /// Commands and flags that are not announced fail with `EINVAL`.
    #[must_use]
    pub fn flags(self, flags: TransmissionFlags) -> Self {
        self.with(|settings| settings.flags = Some(flags))
    }

    /// Sets the block sizes, in bytes: smallest unit of a request, preferred unit, and largest
    /// payload (`u32::MAX` for no limit). They are announced and enforced.
    ///
    /// Unless set: 1, 4096 and 32 MiB. The numbers are not checked: a client can be shown
    /// impossible ones, and a minimum of 0 is enforced as 1.
    #[must_use]
    pub fn block_sizes(self, minimum: u32, preferred: u32, maximum: u32) -> Self {
        self.with(|settings| {
            settings.blocks = BlockSizes {
                minimum,
                preferred,
                maximum,
            };
        })
    }

    /// Sets whether zeroing is fast. If not, `FAST_ZERO` is still announced, and answered with
    /// `ENOTSUP`.
    #[must_use]
    pub fn fast_zero(self, fast: bool) -> Self {
        self.with(|settings| settings.fast_zero = fast)
    }

    /// Sets how many bytes a read with `DF` can have before it fails with `EOVERFLOW`; at most
    /// and by default 1 GiB.
    #[must_use]
    pub fn max_unfragmented(self, bytes: u32) -> Self {
        self.with(|settings| settings.max_unfragmented = bytes.min(1 << 30))
    }

    /// Sets whether the context `base:allocation` exists; it does by default.
    #[must_use]
    pub fn allocation(self, exists: bool) -> Self {
        self.with(|settings| {
            settings.contexts.retain(|context| !context.is_allocation());
            if exists {
                settings
                    .contexts
                    .insert(0, Arc::new(ExportContext::allocation()));
            }
        })
    }

    /// Adds a metadata context with these extents, as (length in bytes, status flags) from the
    /// start of the export on; what is left has the flags 0.
    ///
    /// A context with flags over 32 bits can be selected only with extended headers.
    #[must_use]
    pub fn context(
        self,
        name: impl Into<String>,
        extents: impl IntoIterator<Item = (u64, u64)>,
    ) -> Self {
        let context = Arc::new(ExportContext::given(name.into(), extents));
        self.with(|settings| settings.contexts.push(context))
    }

    /// Keeps the headers of the latest `limit` requests for [`log`](Self::log).
    #[must_use]
    pub fn log_requests(self, limit: usize) -> Self {
        self.with(|settings| settings.log = limit)
    }

    /// The size, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.settings.size
    }

    /// The bytes from `offset` on, `length` of them: what a client would read.
    ///
    /// # Panics
    /// If the range does not lie inside the export.
    #[must_use]
    pub fn contents(&self, offset: u64, length: usize) -> Vec<u8> {
        self.check(offset, length as u64);
        let mut contents = Vec::with_capacity(length);
        self.pages()
            .read(offset, length as u64, |at, piece| match piece {
                Piece::Data(data) => contents.extend_from_slice(&data),
                Piece::Hole(hole) => {
                    // The hole ends inside the range, whose length is a `usize`.
                    let end = usize::try_from(at - offset + hole).unwrap_or(length);
                    contents.resize(end, 0);
                }
            });
        contents
    }

    /// Stores `data` at `offset`, as a client's write would.
    ///
    /// # Panics
    /// If the range does not lie inside the export.
    pub fn write(&self, offset: u64, data: impl AsRef<[u8]>) {
        let data = data.as_ref();
        self.check(offset, data.len() as u64);
        self.pages().write(offset, data);
    }

    /// Stores `byte` in the whole range, allocating it.
    ///
    /// # Panics
    /// If the range does not lie inside the export.
    pub fn fill(&self, offset: u64, length: u64, byte: u8) {
        self.check(offset, length);
        let block = [byte; PAGE];
        let mut cursor = offset;
        while cursor < offset + length {
            // The first piece ends where a page ends, so that the rest is written page by page.
            let page = PAGE as u64 - cursor % PAGE as u64;
            let now = page.min(offset + length - cursor);
            let now = usize::try_from(now).unwrap_or(PAGE);
            self.pages().write(cursor, &block[..now]);
            cursor += now as u64;
        }
    }

    /// What was asked of the export so far, over all connections.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.state.counts.counters()
    }

    /// The headers of the latest requests, oldest first, if
    /// [`log_requests`](Self::log_requests) was set.
    #[must_use]
    pub fn log(&self) -> Vec<RequestHead> {
        let log = self.state.log.lock();
        let log = log.unwrap_or_else(PoisonError::into_inner);
        log.iter().copied().collect()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn pages(&self) -> &Pages {
        &self.state.pages
    }

    /// Counts and logs a request that arrived.
    pub(super) fn record(&self, head: &RequestHead) {
        self.state.counts.record(head);
        let limit = self.settings.log;
        if limit > 0 {
            let log = self.state.log.lock();
            let mut log = log.unwrap_or_else(PoisonError::into_inner);
            if log.len() == limit {
                log.pop_front();
            }
            log.push_back(*head);
        }
    }

    /// Size and flags as they fit what was negotiated.
    pub(super) fn info(&self, style: ReplyStyle, contexts: bool) -> ExportInfo {
        let flags = self.settings.flags.unwrap_or_else(|| {
            use TransmissionFlags as F;
            let mut flags = F::HAS_FLAGS | F::SEND_FLUSH | F::SEND_CACHE | F::CAN_MULTI_CONN;
            if self.settings.read_only {
                flags |= F::READ_ONLY;
            } else {
                flags |= F::SEND_FUA | F::SEND_TRIM | F::SEND_WRITE_ZEROES | F::SEND_FAST_ZERO;
            }
            // "Transmission flags": DF needs chunks, the payload form extended headers.
            flags.set(F::SEND_DF, style != ReplyStyle::Simple);
            let filter = style == ReplyStyle::Extended && contexts;
            flags.set(F::BLOCK_STATUS_PAYLOAD, filter);
            flags
        });
        ExportInfo {
            size: self.settings.size,
            flags,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    fn check(&self, offset: u64, length: u64) {
        let end = offset.checked_add(length);
        assert!(
            end.is_some_and(|end| end <= self.settings.size),
            "{offset}+{length} is outside an export of {} bytes",
            self.settings.size
        );
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("settings", &self.settings)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_contents_but_not_later_settings() {
        let disk = Export::new(1 << 20);
        let protected = disk.clone().read_only(true);
        protected.fill(65_530, 70_000, 9);
        assert_eq!(disk.contents(65_529, 2), [0, 9]);
        assert_eq!(disk.contents(65_529 + 70_000, 2), [9, 0]);
        assert!(!disk.settings().read_only);
    }

    #[test]
    fn flags_follow_what_was_negotiated() {
        use TransmissionFlags as F;
        let disk = Export::new(0);
        let simple = disk.info(ReplyStyle::Simple, false).flags;
        assert!(!simple.intersects(F::SEND_DF | F::BLOCK_STATUS_PAYLOAD));
        let extended = disk.info(ReplyStyle::Extended, true).flags;
        assert!(extended.contains(F::SEND_DF | F::BLOCK_STATUS_PAYLOAD));
        let protected = disk.read_only(true).info(ReplyStyle::Structured, true);
        assert!(protected.flags.contains(F::READ_ONLY | F::SEND_DF));
        assert!(!protected.flags.contains(F::SEND_TRIM));
    }

    #[test]
    #[should_panic(expected = "outside an export")]
    fn a_write_past_the_end_panics() {
        Export::new(10).write(8, b"abc");
    }
}
