//! The stream ends, or pauses, at every byte of a session.

use nbd_client::testing::{Export, Server};
use nbd_client::wire::ReplyStyle;
use nbd_client::{Error, Result, State};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::*;

/// A whole session: handshake, a write, reads small and large, status, goodbye.
async fn session<S>(style: ReplyStyle, stream: S) -> Result<u64>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let conn = builder(style)
        .meta_context("base:allocation")
        .full_info(true)
        .build();
    let result = async {
        conn.connect_stream(stream).await?;
        conn.write(512, vec![7; 100]).await?;
        assert_eq!(conn.read(500, 50).await?[12..], [7; 38]);
        let large = conn.read(0, 40_000).await?;
        assert!(large[612..].iter().all(|&byte| byte == 0));
        if style != ReplyStyle::Simple {
            let status = conn.block_status(0, 1 << 20).await?;
            assert_eq!(status.len(), 1);
        }
        conn.flush().await
    };
    match result.await {
        Ok(()) => {
            let received = conn.stats().bytes_received;
            conn.disconnect().await?;
            Ok(received)
        }
        Err(error) => {
            conn.closed().await;
            assert!(matches!(conn.state(), State::Dead | State::Closed));
            Err(error)
        }
    }
}

fn server() -> Server {
    Server::new(Export::new(1 << 20).description("a disk"))
}

#[tokio::test]
async fn g01_o10_r05_c48_the_end_at_any_byte_is_an_error() {
    for style in STYLES {
        let whole = session(style, server().connect()).await.unwrap();
        let whole = usize::try_from(whole).unwrap();
        // Every byte of the handshake and of all heads; the bulk data in steps.
        let cuts = (0..1200)
            .chain((1200..whole - 200).step_by(997))
            .chain(whole - 200..whole);
        for cut in cuts.filter(|&cut| cut < whole) {
            let stream = Paced::ending_after(server().connect(), cut);
            let error = session(style, stream).await.expect_err("cut off");
            assert!(
                matches!(error, Error::Disconnected(..)),
                "{style:?} cut off at {cut}: {error:?}"
            );
        }
    }
}

#[tokio::test]
async fn c47_a_pause_at_any_byte_changes_nothing() {
    for style in STYLES {
        let whole = session(style, server().connect()).await.unwrap();
        let whole = usize::try_from(whole).unwrap();
        for cut in (0..1200).chain((1200..whole).step_by(503)) {
            let stream = Paced::split_at(server().connect(), cut);
            let received = session(style, stream).await.unwrap();
            assert_eq!(received, whole as u64);
        }
    }
}

#[tokio::test]
async fn o16_r14_drips_of_any_size_change_nothing() {
    for style in STYLES {
        let whole = session(style, server().connect()).await.unwrap();
        for step in [1, 2, 3, 7, 17, 19, 64, 1000] {
            let stream = Paced::dripping(server().connect(), step);
            assert_eq!(session(style, stream).await.unwrap(), whole);
        }
    }
}

#[tokio::test]
async fn k29_pipes_of_any_size_change_nothing() {
    for style in STYLES {
        for capacity in [1, 2, 5, 27, 28, 29, 100, 4096] {
            session(style, server().connect_with_capacity(capacity))
                .await
                .unwrap();
        }
    }
}
