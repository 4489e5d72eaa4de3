//! When a disk connects again, how often a request is sent, and what is final.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt as _, TryStreamExt as _};
use nbd_client::testing::{Export, Peer, Server};
use nbd_client::wire::{Command, Errno, ReplyStyle};
use nbd_client::{Changes, Delivery, Error};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::time::sleep;

use super::*;
use crate::support::{INFO, assert_matches};

/// A server that hangs up at each flush and at each request that does not begin at the start, and counts
/// them.
fn touchy() -> (Server, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let server = Server::builder()
        .export("", Export::new(SIZE))
        .hang_up_on(move |request| {
            let hangs_up = request.offset > 0 || request.command == Command::FLUSH;
            counted.fetch_add(usize::from(hangs_up), Ordering::SeqCst);
            hangs_up
        })
        .build();
    (server, count)
}

both_runtimes!(a_request_that_was_on_three_lost_links_fails);
async fn a_request_that_was_on_three_lost_links_fails() {
    let (server, count) = touchy();
    let disk = builder().changes(Changes::Repeat);
    let disk = disk.open(Place::of(&server).connector()).await.unwrap();
    let chunks = disk.read_structured(512, 512);
    let chunks = chunks.try_collect::<Vec<_>>();
    for error in [
        watch(disk.read(512, 512).into_future()).await.err(),
        watch(chunks).await.err(),
        watch(disk.cache(512, 512).into_future()).await.err(),
        watch(disk.flush().into_future()).await.err(),
    ] {
        let error = error.unwrap();
        assert_matches!(&error, Error::Disconnected(..));
        assert_eq!(error.delivery(), Delivery::MaybeSent, "{error}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 4 * 3);
    for (error, last) in [
        (watch(disk.write(512, "x").into_future()).await, 15),
        (watch(disk.write_zeroes(1024, 512).into_future()).await, 18),
    ] {
        let Err(Error::OutcomeUnknown(lost)) = error else {
            panic!("{error:?}");
        };
        assert_eq!(lost.generation(), Some(last));
        assert_matches!(lost.cause(), Error::Disconnected(..));
    }
    assert_eq!(count.load(Ordering::SeqCst), 6 * 3);
    // The disk goes on.
    watch(disk.read(0, 512).into_future()).await.unwrap();
}

both_runtimes!(a_change_that_three_servers_have_refused_fails);
async fn a_change_that_three_servers_have_refused_fails() {
    let export = Export::new(SIZE);
    let server = Server::builder()
        .export("", export.clone())
        .fail_with(|request| {
            (request.command == Command::WRITE).then(|| (Errno::ESHUTDOWN, String::new()))
        })
        .build();
    let disk = builder()
        .open(Place::of(&server).connector())
        .await
        .unwrap();
    let error = watch(disk.write(0, "x").into_future()).await.unwrap_err();
    assert_matches!(&error, Error::Request(failed) if failed.errno() == Errno::ESHUTDOWN);
    assert_eq!(export.counters().writes, 3);
    assert!(disk.status().held.is_empty());
    watch(disk.read(0, 512).into_future()).await.unwrap();
}

/// The bound of the first delay. Those of later ones are so much longer that nothing random is as short.
const FIRST: Duration = Duration::from_micros(1);

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_lived_for_five_seconds_makes_the_next_delay_short() {
    let retry = Retry::default().first(FIRST).factor(1e9);
    let (disk, server, _place) = open(builder().retry(retry.most(Duration::from_secs(40)))).await;
    let mut events = disk.events();
    for (lived, is_short) in [
        // Nothing was lost before the first one.
        (0, true),
        (0, false),
        (4_900, false),
        (5_100, true),
        (0, false),
        (3_000, false),
        (3_000, false),
        (60_000, true),
    ] {
        sleep(Duration::from_millis(lived)).await;
        server.hang_up();
        let delay = event(&mut events, |event| match event {
            Event::Retrying { attempt, delay, .. } => {
                assert_eq!(attempt, 1, "they are counted from the loss");
                Some(delay)
            }
            _ => None,
        });
        let delay = delay.await;
        assert_eq!(delay <= FIRST, is_short, "{delay:?} after {lived} ms");
        recovered(&mut events).await;
    }
}

/// Leads the first connection to a server, and the next ones to something that says `greeting`. Counts
/// all.
fn then_greeted(server: &Server, greeting: &'static [u8]) -> (Connector, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let (server, counted) = (server.clone(), count.clone());
    let connector = Connector::stream(move || {
        let (server, nth) = (server.clone(), counted.fetch_add(1, Ordering::SeqCst));
        async move {
            if nth == 0 {
                return Ok(server.connect());
            }
            let (client, mut other) = tokio::io::duplex(4096);
            other.write_all(greeting).await?;
            Ok::<DuplexStream, std::io::Error>(client)
        }
    });
    (connector, count)
}

both_runtimes!(a_server_that_greets_wrongly_is_not_asked_again);
async fn a_server_that_greets_wrongly_is_not_asked_again() {
    let server = Server::new(Export::new(SIZE));
    let (connector, count) = then_greeted(&server, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let disk = builder().open(connector).await.unwrap();
    let events = disk.events();
    server.hang_up();
    let events: Vec<_> = watch(events.collect()).await;
    assert_matches!(
        &events[..],
        [
            Event::Lost { .. },
            Event::Retrying { .. },
            Event::GaveUp {
                cause: Error::Protocol(..)
            }
        ]
    );
    assert_eq!(count.load(Ordering::SeqCst), 2);
    let error = watch(disk.read(0, 1).into_future()).await;
    assert_matches!(error, Err(Error::Protocol(..)));
    // The same is final for the first connection.
    let (connector, count) = then_greeted(&server, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    count.store(1, Ordering::SeqCst);
    let patient = builder().retry_first(true);
    let error = watch(patient.open(connector)).await.unwrap_err();
    assert_matches!(error, Error::Protocol(..));
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

both_runtimes!(a_server_that_breaks_the_protocol_is_not_asked_again);
async fn a_server_that_breaks_the_protocol_is_not_asked_again() {
    let style = ReplyStyle::Simple;
    let (mut peer, stream) = Peer::pair();
    let stream = Mutex::new(Some(stream));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let connector = Connector::stream(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let stream = stream.lock().unwrap().take();
        async move { stream.ok_or_else(|| std::io::ErrorKind::ConnectionRefused.into()) }
    });
    let link = crate::support::builder(style);
    let (disk, greeted) = tokio::join!(
        watch(builder().link(link).open(connector)),
        watch(peer.handshake(style, INFO, &[]))
    );
    greeted.unwrap();
    let disk = disk.unwrap();
    let events = disk.events();
    let read = begun(disk.read(0, 512));
    watch(peer.expect_request()).await.unwrap();
    watch(peer.send_bytes(&[0x55; 16])).await.unwrap();
    assert_matches!(watch(read).await.unwrap(), Err(Error::Protocol(..)));
    let events: Vec<_> = watch(events.collect()).await;
    assert_matches!(&events[..], [Event::Lost { .. }, Event::GaveUp { .. }]);
    assert_matches!(disk.ended(), Some(Error::Protocol(..)));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[cfg(feature = "tls")]
mod tls {
    use nbd_client::Connection;
    use nbd_client::wire::OptionReplyType;
    use tokio::net::TcpStream;

    use super::*;
    use crate::shared::loopback::loopback;
    use crate::shared::upgrade::behind_tls;
    use crate::support::front;

    /// Leads the first connection to a server behind TLS, if there is one, and the next ones to a server
    /// without. Counts all.
    fn connector(first: Option<&Server>, then: &Server) -> (Connector, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let (first, then, counted) = (first.cloned(), then.clone(), count.clone());
        let connector = Connector::stream(move || {
            let nth = counted.fetch_add(1, Ordering::SeqCst);
            let (first, then) = (first.clone().filter(|_| nth == 0), then.clone());
            async move {
                let (client, server) = loopback();
                client.set_nonblocking(true)?;
                match first {
                    Some(first) => drop(tokio::spawn(front(server, first.connect()))),
                    None => drop(tokio::spawn(async move { then.serve(server).await })),
                }
                TcpStream::from_std(client)
            }
        });
        (connector, count)
    }

    both_runtimes!(a_server_that_does_not_offer_the_tls_that_is_required_is_not_asked_again);
    async fn a_server_that_does_not_offer_the_tls_that_is_required_is_not_asked_again() {
        let (first, then) = (
            Server::new(Export::new(SIZE)),
            Server::new(Export::new(SIZE)),
        );
        let builder = builder().link(behind_tls(Connection::builder()));
        let (connect, count) = connector(Some(&first), &then);
        let disk = watch(builder.clone().open(connect)).await.unwrap();
        watch(disk.read(0, 512).into_future()).await.unwrap();
        let events = disk.events();
        first.hang_up();
        let events: Vec<_> = watch(events.collect()).await;
        assert_matches!(
            &events[..],
            [
                Event::Lost { .. },
                Event::Retrying { .. },
                Event::GaveUp { cause }
            ] if lacks_tls(cause)
        );
        let error = watch(disk.read(0, 512).into_future()).await.unwrap_err();
        assert!(lacks_tls(&error), "{error:?}");
        assert_eq!(count.load(Ordering::SeqCst), 2);
        // The same is final for the first connection.
        let (connect, count) = connector(None, &then);
        let error = watch(builder.retry_first(true).open(connect)).await;
        assert!(lacks_tls(&error.unwrap_err()));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    fn lacks_tls(error: &Error) -> bool {
        let unsupported = OptionReplyType::ERR_UNSUP;
        matches!(error, Error::Refused(refusal) if refusal.reply() == unsupported)
    }

    both_runtimes!(a_server_that_wants_tls_now_is_not_asked_again);
    async fn a_server_that_wants_tls_now_is_not_asked_again() {
        let (disk, server, place) = open(builder()).await;
        let events = disk.events();
        let strict = Server::builder().export("", Export::new(SIZE));
        place.put(Some(&strict.tls_required(true).build()));
        server.hang_up();
        let error = watch(disk.read(0, 512).into_future()).await.unwrap_err();
        let required = OptionReplyType::ERR_TLS_REQD;
        assert_matches!(&error, Error::Refused(refusal) if refusal.reply() == required);
        let events: Vec<_> = watch(events.collect()).await;
        assert_matches!(
            &events[..],
            [
                Event::Lost { .. },
                Event::Retrying { .. },
                Event::GaveUp { .. }
            ]
        );
    }
}
