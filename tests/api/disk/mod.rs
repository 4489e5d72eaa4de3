//! A disk over connections that are lost.

mod choice;
mod closes;
mod early;
mod ends;
mod fences;
mod flushes;
mod further;
mod journal;
mod links;
mod losses;
mod parts;
mod pieces;
mod replaced;
mod requests;
mod retry;
mod same;
mod several;
mod stalls;
mod streams;
mod taint;
mod unaligned;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nbd_client::testing::{Export, Server};
use nbd_client::wire::TransmissionFlags as Flags;
use nbd_client::{Connector, Disk, DiskBuilder, Event, Events, Retry};

const SIZE: u64 = 1 << 20;

/// Servers, one after the other: whichever is in place gets the next connection.
#[derive(Clone)]
struct Place(Arc<Mutex<Option<Server>>>);

impl Place {
    fn of(server: &Server) -> Self {
        Self(Arc::new(Mutex::new(Some(server.clone()))))
    }

    fn put(&self, server: Option<&Server>) {
        *self.0.lock().unwrap() = server.cloned();
    }

    /// The server that is in place.
    fn server(&self) -> Server {
        self.0.lock().unwrap().clone().unwrap()
    }

    fn connector(&self) -> Connector {
        let place = self.clone();
        Connector::stream(move || {
            let server = place.0.lock().unwrap().clone();
            async move {
                let nobody = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                server.map(|server| server.connect()).ok_or_else(nobody)
            }
        })
    }
}

/// Delays that do not slow tests down.
fn quick() -> Retry {
    Retry::default()
        .first(Duration::from_millis(1))
        .most(Duration::from_millis(5))
}

fn builder() -> DiskBuilder {
    Disk::builder().retry(quick())
}

async fn open(builder: DiskBuilder) -> (Disk, Server, Place) {
    let server = Server::new(Export::new(SIZE));
    let place = Place::of(&server);
    let disk = watch(builder.open(place.connector())).await.unwrap();
    (disk, server, place)
}

/// Waits for an event.
async fn event<T>(events: &mut Events, find: impl Fn(Event) -> Option<T>) -> T {
    use futures::StreamExt;
    watch(async {
        loop {
            let event = events.next().await.expect("the disk has not ended");
            if let Some(found) = find(event) {
                return found;
            }
        }
    })
    .await
}

/// An export that several connections may change.
fn shared() -> Export {
    let flags = Export::new(SIZE).flags(
        Flags::HAS_FLAGS
            | Flags::SEND_FLUSH
            | Flags::SEND_FUA
            | Flags::SEND_WRITE_ZEROES
            | Flags::CAN_MULTI_CONN,
    );
    flags.log_requests(1 << 16)
}

/// Reads so many times at once that further links are opened.
async fn load(disk: &Disk, links: usize) {
    watch(async {
        while disk.status().links < links {
            let reads: Vec<_> = (0..256).map(|_| begun(disk.read(0, 512))).collect();
            for read in reads {
                read.await.unwrap().unwrap();
            }
        }
    })
    .await;
}

async fn recovered(events: &mut Events) {
    event(events, |event| {
        matches!(event, Event::Recovered { .. }).then_some(())
    })
    .await;
}

async fn lost(events: &mut Events) {
    event(events, |event| {
        matches!(event, Event::Lost { .. }).then_some(())
    })
    .await;
}

/// Begins a request, and goes on without waiting for it.
fn begun<T: Send + 'static>(
    request: impl IntoFuture<Output = T, IntoFuture: Future<Output = T> + Send + 'static>,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(request.into_future())
}

/// Fails a test that waits for ever.
async fn watch<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(60), future);
    waited.await.expect("it waits for ever")
}
