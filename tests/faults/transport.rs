//! What is between a client and its scripted server.

use std::os::fd::OwnedFd;

use nbd_client::testing::Peer;
use nbd_client::wire::ReplyStyle;
use nbd_client::{Builder, Connection};
use tokio::net::UnixStream;
use tokio::runtime::RuntimeFlavor;

use crate::harness::{CONTEXTS, SIZE, info};
use crate::shared::loopback::loopback;
#[cfg(feature = "tls")]
use crate::tls;

/// What the client's end is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    /// A pipe in memory, on a clock that stands still.
    Duplex,
    /// A Unix socket.
    Unix,
    /// TCP, in this machine.
    Tcp,
    /// TLS on that.
    #[cfg(feature = "tls")]
    Tls,
}

impl Transport {
    /// Those that every case is run over.
    pub(crate) fn all() -> &'static [Self] {
        const ALL: &[Transport] = &[
            Transport::Duplex,
            Transport::Unix,
            Transport::Tcp,
            #[cfg(feature = "tls")]
            Transport::Tls,
        ];
        // There is time for all of them in a long run only.
        let is_long = std::env::var_os("NBD_LONG").is_some();
        if is_long { ALL } else { &ALL[..2] }
    }

    /// Those of these runtimes that it can be used on: its clock stands still on one of them only.
    pub(crate) fn runtimes(self, runtimes: &[RuntimeFlavor]) -> &[RuntimeFlavor] {
        match self {
            Self::Duplex => &runtimes[..1],
            _ => runtimes,
        }
    }

    /// Connects, and plays the handshake.
    pub(crate) async fn ready(self, style: ReplyStyle, builder: Builder) -> (Connection, Peer) {
        self.ready_of(SIZE, style, builder).await
    }

    /// The same for an export of `size` bytes.
    pub(crate) async fn ready_of(
        self,
        size: u64,
        style: ReplyStyle,
        builder: Builder,
    ) -> (Connection, Peer) {
        let builder = builder
            .structured_replies(style != ReplyStyle::Simple)
            .extended_headers(style == ReplyStyle::Extended);
        #[cfg(feature = "tls")]
        if self == Self::Tls {
            return tls::ready(style, builder, info(size)).await;
        }
        let conn = builder.build();
        let (connecting, mut peer) = match self {
            Self::Duplex => {
                let (peer, stream) = Peer::pair();
                (conn.aio_connect_stream(stream), peer)
            }
            Self::Unix => {
                let (client, server) = std::os::unix::net::UnixStream::pair().unwrap();
                server.set_nonblocking(true).unwrap();
                let peer = Peer::new(UnixStream::from_std(server).unwrap());
                (conn.aio_connect_socket(OwnedFd::from(client)), peer)
            }
            _ => {
                let (client, server) = loopback();
                (conn.aio_connect_socket(client), Peer::new(server))
            }
        };
        let (connected, greeted) = tokio::join!(
            connecting.unwrap(),
            peer.handshake(style, info(size), &CONTEXTS)
        );
        greeted.unwrap();
        connected.unwrap();
        (conn, peer)
    }
}
