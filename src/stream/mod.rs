//! Streams that read a range in order, and sinks that write one.

mod ahead;
mod blocks;
mod fetch;
mod pieces;
mod read;
mod sink;
mod source;
mod writes;

pub(crate) use ahead::{Reach, ReadAhead, Settings};
pub use pieces::Pieces;
pub use read::ReadStream;
pub use sink::WriteSink;
pub(crate) use writes::{Change, Writes};

/// The settings of a stream that reads ahead.
macro_rules! settings {
    ($name:ident) => {
        impl<C: Client> $name<C> {
            /// Sets the length of a request in bytes, by default 256 KiB. It is at least the minimum
            /// block size of the export, and at most its [`max_payload`](crate::Export::max_payload).
            pub fn request_size(mut self, bytes: usize) -> Self {
                self.ahead.settings.request = bytes.max(1) as u64;
                self
            }

            /// Sets how many requests are made before their bytes are taken, by default 4 and at
            /// least one.
            ///
            /// It limits the bytes that are requested or kept, and so the memory of the stream: if
            /// requests are shorter than [`request_size`](Self::request_size), there are more of
            /// them.
            pub fn depth(mut self, requests: usize) -> Self {
                self.ahead.settings.reach = crate::stream::Reach::Requests(requests.max(1) as u64);
                self
            }

            /// Sets the timeout of each request, see [`Request::timeout`](crate::Request::timeout).
            pub const fn timeout(mut self, timeout: Duration) -> Self {
                self.ahead.settings.timeout = Some(timeout);
                self
            }
        }
    };
}

use settings;
