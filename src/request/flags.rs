//! What requests can be asked for: flags, ranges of any length, and ways around missing commands.

use super::op::{Read, ReadInto, Status, Trim, Write, WriteZeroes};
use super::{Client, Request};
use crate::wire::CommandFlags;

impl<C: Client> Request<Read, C> {
    /// Asks for the data in one chunk (`DF`). The server may refuse with `EOVERFLOW` what is
    /// longer than 64 KiB.
    #[doc(alias = "LIBNBD_CMD_FLAG_DF")]
    pub fn dont_fragment(self) -> Self {
        self.flag(CommandFlags::DF)
    }
}

impl<C: Client> Request<ReadInto, C> {
    pub(crate) fn into_buffer(client: &C, offset: u64, buffer: bytes::BytesMut) -> Self {
        let length = match buffer.is_empty() {
            true => buffer.capacity(),
            false => buffer.len(),
        };
        Self::new(client, ReadInto(buffer), offset, length as u64)
    }

    /// Asks for the data in one chunk (`DF`). The server may refuse with `EOVERFLOW` what is
    /// longer than 64 KiB.
    #[doc(alias = "LIBNBD_CMD_FLAG_DF")]
    pub fn dont_fragment(self) -> Self {
        self.flag(CommandFlags::DF)
    }
}

/// Implements `fua` for commands that change data.
macro_rules! fua {
    ($($operation:ty),*) => {$(
        impl<C: Client> Request<$operation, C> {
            /// Asks the server to answer only when the change is durable (`FUA`). If the server does
            /// not [offer](crate::Export::can_fua) this, the request is refused, unless
            /// [`emulate_fua`](crate::Builder::emulate_fua) is on.
            #[doc(alias = "LIBNBD_CMD_FLAG_FUA")]
            pub fn fua(self) -> Self {
                self.flag(CommandFlags::FUA)
            }
        }
    )*};
}

fua!(Write, Trim, WriteZeroes);

/// Implements `unaligned` for reads.
macro_rules! unaligned_read {
    ($($operation:ty),*) => {$(
        impl<C: Client> Request<$operation, C> {
            /// Reads any range: the request is made for the whole blocks around it, and the data is
            /// cut.
            ///
            /// Without this, offset and length must be multiples of the server's
            /// [minimum block size](crate::BlockSize::minimum). It costs nothing where they are.
            pub const fn unaligned(mut self) -> Self {
                self.unaligned = true;
                self
            }
        }
    )*};
}

unaligned_read!(Read, ReadInto);

/// Implements `unaligned` for changes.
macro_rules! unaligned_change {
    ($($operation:ty),*) => {$(
        impl<C: Client> Request<$operation, C> {
            /// Changes any range: of a block that the range covers in part, the whole block is read,
            /// changed, and written.
            ///
            /// Without this, offset and length must be multiples of the server's
            /// [minimum block size](crate::BlockSize::minimum). It costs nothing where they are.
            ///
            /// Between the read and the answer to the write, no other change of that block by this
            /// connection is under way, whichever handle or task makes it: changes of the block wait
            /// for each other, so none is lost. Whoever changes the block over another connection
            /// must be kept away by other means; a change of theirs can be undone.
            ///
            /// If the future is dropped before a block is written, that block is not written. From
            /// then on, it is written, as other changes are, and later changes of it wait.
            ///
            /// # Errors
            /// A failure of the server is [`Error::Request`](crate::Error::Request) of the command
            /// that failed, which may be the read. Like other requests that are sent as several
            /// messages, a change that fails may have been carried out in part.
            ///
            /// # Examples
            /// ```
            /// # use nbd_client::{Connection, testing};
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() -> nbd_client::Result<()> {
            /// let disk = testing::Export::new(1 << 20).block_sizes(4096, 4096, 1 << 20);
            /// # let server = testing::Server::new(disk);
            /// # let conn = Connection::new();
            /// # conn.connect_stream(server.connect()).await?;
            /// assert!(conn.write(1000, "hello").await.is_err());
            ///
            /// // Two neighbours at once, in one block:
            /// let hello = conn.write(1000, "hello").unaligned();
            /// let world = conn.write(1005, " world").unaligned();
            /// tokio::try_join!(hello, world)?;
            /// conn.write_zeroes(1002, 2).unaligned().await?;
            /// assert_eq!(&conn.read(1000, 11).unaligned().await?[..], b"he\0\0o world");
            /// # Ok(())
            /// # }
            /// ```
            pub const fn unaligned(mut self) -> Self {
                self.unaligned = true;
                self
            }
        }
    )*};
}

unaligned_change!(Write, WriteZeroes);

impl<C: Client> Request<WriteZeroes, C> {
    /// Asks the server to allocate the zeroes rather than leave a hole (`NO_HOLE`).
    #[doc(alias = "LIBNBD_CMD_FLAG_NO_HOLE")]
    pub fn no_hole(self) -> Self {
        self.flag(CommandFlags::NO_HOLE)
    }

    /// Asks the server to fail with `ENOTSUP` if zeroing is not faster than writing (`FAST_ZERO`).
    /// If the request is sent as several messages, each waits for the one before it, so that a
    /// refusal of the first one leaves the data unchanged.
    #[doc(alias = "LIBNBD_CMD_FLAG_FAST_ZERO")]
    pub fn fast_zero(self) -> Self {
        self.flag(CommandFlags::FAST_ZERO)
    }

    /// Writes zeroes as data where the server does not offer
    /// [`write_zeroes`](crate::Export::can_zero); with [`fast_zero`](Self::fast_zero), also where it
    /// does not offer that, or refuses with `ENOTSUP`.
    ///
    /// The zeroes are sent in messages of at most 256 KiB, a few at a time, which all share one buffer.
    /// Like other requests that are sent as several messages, one that fails may have been carried
    /// out in part.
    ///
    /// # Examples
    /// ```
    /// # use nbd_client::{Connection, testing, wire::TransmissionFlags};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> nbd_client::Result<()> {
    /// let disk = testing::Export::new(1 << 20).flags(TransmissionFlags::HAS_FLAGS);
    /// # let server = testing::Server::new(disk);
    /// # let conn = Connection::new();
    /// # conn.connect_stream(server.connect()).await?;
    /// assert!(!conn.export()?.can_zero());
    /// conn.write(0, vec![1; 1 << 20]).await?;
    /// conn.write_zeroes(4096, 65536).or_write().await?;
    /// assert_eq!(&conn.read(4096, 65536).await?[..], vec![0; 65536]);
    /// # Ok(())
    /// # }
    /// ```
    pub const fn or_write(mut self) -> Self {
        self.operation.or_write = true;
        self
    }
}

impl<C: Client> Request<Status, C> {
    /// Asks for one extent for each context (`REQ_ONE`), which ends inside the range. This is slow
    /// for walking through an export.
    #[doc(alias = "LIBNBD_CMD_FLAG_REQ_ONE")]
    pub fn req_one(self) -> Self {
        self.flag(CommandFlags::REQ_ONE)
    }

    /// Asks for these contexts only. This needs extended headers and
    /// [`can_block_status_payload`](crate::Export::can_block_status_payload).
    #[doc(alias = "nbd_block_status_filter")]
    #[doc(alias = "nbd_aio_block_status_filter")]
    pub fn contexts<I>(mut self, contexts: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.operation.filter = Some(contexts.into_iter().map(Into::into).collect());
        self
    }
}
