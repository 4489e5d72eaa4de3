//! How connections end from this side.

use nbd_client::wire::{Command, Errno};
use nbd_client::{Error, State};
use tokio::time::Instant;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn w12_disc_follows_at_once_when_the_last_request_is_answered() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        let flush = tokio::spawn({
            let conn = conn.clone();
            async move { conn.flush().await }
        });
        let request = peer.expect_command(Command::FLUSH).await.unwrap();
        let ends = tokio::spawn(conn.disconnect().into_future());
        settle().await;
        let start = Instant::now();
        assert_matches!(conn.flush().await, Err(Error::Closed(_)));
        peer.acknowledge(&request.head).await.unwrap();
        peer.expect_command(Command::DISC).await.unwrap();
        peer.expect_end().await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 0);
        drop(peer);
        flush.await.unwrap().unwrap();
        ends.await.unwrap().unwrap();
        assert_eq!(conn.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn r08_after_eshutdown_disc_follows_at_once() {
    for style in STYLES {
        let (conn, mut peer) = ready(style).await;
        let start = Instant::now();
        let (read, ()) = tokio::join!(conn.read(0, 512).into_future(), async {
            let request = peer.expect_command(Command::READ).await.unwrap();
            peer.send_error(&request.head, Errno::ESHUTDOWN, "")
                .await
                .unwrap();
        });
        assert_matches!(read, Err(Error::Request(_)));
        peer.expect_command(Command::DISC).await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 0);
        drop(peer);
        assert_matches!(conn.closed().await, Error::Closed(_));
    }
}
