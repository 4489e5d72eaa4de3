//! The server stops at every byte of a conversation over TLS, and what was said in clear before
//! it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nbd_client::testing::Peer;
use nbd_client::wire::codec::CodecError;
use nbd_client::wire::option::{ExportInfo, OptionReply};
use nbd_client::wire::{Command, OptionReplyType, OptionType, ReplyStyle, TransmissionFlags};
use nbd_client::{Error, Result};
use tokio::io::{AsyncRead, AsyncReadExt, DuplexStream, ReadBuf, duplex};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::shared::long;
use crate::tls::wire::{self, requiring};

/// More than any conversation takes; under a paused clock, more than all deadlines together.
const WATCHDOG: Duration = Duration::from_secs(300);

const INFO: ExportInfo = ExportInfo {
    size: 1 << 20,
    flags: TransmissionFlags::HAS_FLAGS.union(TransmissionFlags::SEND_FLUSH),
};

/// How a server stops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stop {
    /// Its stream ends.
    End,
    /// Its stream is reset.
    Reset,
    /// It stays silent.
    Stall,
    /// The alert `close_notify`, in clear, and then its stream ends.
    Goodbye,
}

/// What comes after the last byte.
struct Rest {
    stop: Stop,
    alert: &'static [u8],
}

impl AsyncRead for Rest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.stop {
            Stop::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Stop::Stall => return Poll::Pending,
            Stop::End => {}
            Stop::Goodbye => {
                let count = buf.remaining().min(self.alert.len());
                let (now, later) = self.alert.split_at(count);
                buf.put_slice(now);
                self.alert = later;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Agrees to TLS, lets the client enter an export, and answers it until it leaves.
async fn serve(
    mut stream: DuplexStream,
    config: Arc<ServerConfig>,
) -> std::result::Result<(), CodecError> {
    wire::try_agree(&mut stream).await?;
    let mut peer = Peer::new(TlsAcceptor::from(config).accept(stream).await?);
    loop {
        let option = peer.expect_option().await?.option;
        if option == OptionType::GO {
            break peer.send_export(option, INFO).await?;
        }
        let refusal = OptionReply::error(option, OptionReplyType::ERR_UNSUP, "");
        peer.send_option_reply(refusal).await?;
    }
    peer.speak(ReplyStyle::Simple);
    loop {
        let request = peer.expect_request().await?.head;
        match request.command {
            Command::DISC => return Ok(()),
            Command::READ => peer.send_data(&request, &[7; 300]).await?,
            _ => peer.acknowledge(&request).await?,
        }
    }
}

/// Talks with a server that stops after so many bytes.
async fn talk(config: Arc<ServerConfig>, cut: usize, stop: Stop) -> Result<()> {
    let (server, client) = duplex(1 << 16);
    let (heard, said) = tokio::io::split(client);
    let alert = b"\x15\x03\x03\0\x02\x01\0";
    let heard = heard.take(cut as u64).chain(Rest { stop, alert });
    let conn = requiring();
    let client = async {
        conn.connect_stream(tokio::io::join(heard, said)).await?;
        let patience = Duration::from_secs(10);
        for offset in [0, 300] {
            let data = conn.read(offset, 300).timeout(patience).await?;
            assert_eq!(data, [7; 300][..]);
        }
        conn.flush().timeout(patience).await
    };
    // How the server takes it is not the point.
    let mut serving = tokio::spawn(serve(server, config));
    let result = timeout(WATCHDOG, client).await;
    let result = result.unwrap_or_else(|_| panic!("it hangs with {stop:?} at {cut}"));
    drop(conn);
    let left = timeout(WATCHDOG, &mut serving).await;
    assert!(left.is_ok(), "the stream stays open with {stop:?} at {cut}");
    result
}

/// The conversation has at least so many bytes.
const MOST: usize = 2200;

/// Cuts the conversation off at every `step`th byte, until it is whole; in a long run at so many
/// times as many of them.
async fn stopped(config: ServerConfig, stop: Stop, step: usize) {
    let config = Arc::new(config);
    let step = step.div_ceil(long::factor());
    let mut count = 0;
    for cut in (0..).step_by(step) {
        // In debug builds rustls does not survive nonsense that follows its own close_notify,
        // which the client says when all is over.
        if stop == Stop::Goodbye && cut > MOST {
            break;
        }
        let Err(error) = talk(config.clone(), cut, stop).await else {
            assert!(cut > MOST, "whole with {cut} bytes");
            break;
        };
        let is_right = match stop {
            Stop::End | Stop::Reset => matches!(error, Error::Tls(..) | Error::Disconnected(..)),
            Stop::Stall => matches!(error, Error::Timeout(..)),
            // In what is said in clear it is a piece of nonsense.
            Stop::Goodbye => {
                matches!(
                    error,
                    Error::Tls(..) | Error::Disconnected(..) | Error::Protocol(..)
                )
            }
        };
        assert!(is_right, "{stop:?} at {cut}: {error:?}");
        count += 1;
    }
    println!("reached: {count} cuts, {stop:?} of TLS");
}

#[tokio::test]
async fn t06_t21_the_end_at_any_byte_is_a_failure_with_tls_1_3() {
    stopped(wire::config(), Stop::End, 1).await;
}

#[tokio::test]
async fn t06_t21_the_end_at_any_byte_is_a_failure_with_tls_1_2() {
    stopped(wire::tls12(), Stop::End, 1).await;
}

#[tokio::test]
async fn t06_a_reset_at_any_byte_is_a_failure() {
    stopped(wire::config(), Stop::Reset, 3).await;
    stopped(wire::tls12(), Stop::Reset, 7).await;
}

#[tokio::test]
async fn t06_close_notify_at_any_byte_is_a_failure() {
    stopped(wire::config(), Stop::Goodbye, 3).await;
    stopped(wire::tls12(), Stop::Goodbye, 7).await;
}

#[tokio::test(start_paused = true)]
async fn t07_a_stall_at_any_byte_ends_with_a_deadline() {
    stopped(wire::config(), Stop::Stall, 3).await;
    stopped(wire::tls12(), Stop::Stall, 7).await;
}
