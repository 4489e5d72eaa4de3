//! What goes to `tracing`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};

use nbd_client::Connection;
use nbd_client::testing::{Export, Server};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps every span and event of this crate as a line.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<(Level, String)>>>,
    spans: Arc<AtomicU64>,
    /// Hears nothing.
    deaf: bool,
}

impl Log {
    fn push(&self, level: Level, line: Line) {
        self.lines.lock().unwrap().push((level, line.0));
    }

    /// The lines of this level, one below the other.
    fn at(&self, level: Level) -> String {
        let lines = self.lines.lock().unwrap();
        let lines = lines.iter().filter(|(found, _)| *found == level);
        lines.map(|(_, line)| format!("{line}\n")).collect()
    }
}

/// Fields as text.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?};"));
    }
}

/// Listens on this thread from now on.
fn listen(log: &Log) -> DefaultGuard {
    // Other tests run meanwhile in threads that nobody listens to. If this were the only
    // subscriber, what `tracing` learns there about an event would be held against it here.
    static EVERYBODY: Once = Once::new();
    let deaf = Log {
        deaf: true,
        ..Log::default()
    };
    EVERYBODY.call_once(|| tracing::subscriber::set_global_default(deaf).unwrap());
    tracing::subscriber::set_default(log.clone())
}

impl Subscriber for Log {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !self.deaf && metadata.target().starts_with("nbd_client")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(format!("span {}: ", span.metadata().name()));
        span.record(&mut line);
        self.push(*span.metadata().level(), line);
        Id::from_u64(1 + self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.push(*event.metadata().level(), line);
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line("recorded: ".into());
        values.record(&mut line);
        self.push(Level::DEBUG, line);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_connection_tells_its_story_in_a_span_of_its_own() {
    let log = Log::default();
    let _guard = listen(&log);
    let server = Server::builder().export("disk", Export::new(4096)).build();
    let conn = Connection::builder().export_name("disk").build();
    let listening = server.listen_tcp("127.0.0.1:0").await.unwrap();
    let port = listening.local_addr().port();
    conn.connect_tcp("localhost", port).await.unwrap();
    conn.disconnect().await.unwrap();
    let story = log.at(Level::DEBUG);
    let mut rest = story.as_str();
    for part in [
        &format!("span nbd: peer=Tcp {{ host: \"localhost\", port: {port} }};export=\"disk\";"),
        "message=connecting;",
        &format!("recorded: address=127.0.0.1:{port};"),
        "handshake=\"newstyle-fixed\"",
        "message=ready;export=\"disk\";size=4096;",
        "message=connection ended;state=closed;",
    ] {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("{part} is not in its place: {story}");
        };
        rest = after;
    }
    assert_eq!(log.at(Level::WARN), "");
}

#[tokio::test]
async fn a_lost_connection_is_a_warning_with_its_cause() {
    let log = Log::default();
    let _guard = listen(&log);
    let hang_up = Server::builder()
        .export("", Export::new(4096))
        .hang_up_on(|_| true);
    let conn = Connection::new();
    let stream = hang_up.build().connect();
    conn.connect_stream(stream).await.unwrap();
    conn.read(0, 1).await.unwrap_err();
    let error = conn.closed().await;
    let warning = log.at(Level::WARN);
    assert!(warning.contains("message=connection lost;"), "{warning}");
    assert!(warning.contains(&error.to_string()), "{warning}");
}

#[tokio::test]
async fn k51_requests_are_traced_without_their_data() {
    let log = Log::default();
    let _guard = listen(&log);
    let server = Server::new(Export::new(1 << 20));
    let conn = Connection::new();
    conn.connect_stream(server.connect()).await.unwrap();
    conn.write(8192, "sesame").fua().await.unwrap();
    conn.read(8192, 6).await.unwrap();
    let trace = log.at(Level::TRACE);
    let write =
        "message=request;command=WRITE;offset=8192;length=6;flags=CommandFlags(FUA | PAYLOAD_LEN);";
    assert!(trace.contains(write), "{trace}");
    assert!(trace.contains("command=READ;offset=8192;length=6;"));
    let everything = trace + &log.at(Level::DEBUG);
    assert!(!everything.contains("sesame"), "{everything}");
    // Nor as a list of bytes.
    assert!(!everything.contains("115, 101, 115"), "{everything}");
}

#[tokio::test]
async fn k51_a_user_in_a_uri_stays_out_of_the_log() {
    let log = Log::default();
    let _guard = listen(&log);
    let server = Server::new(Export::new(4096));
    let listening = server.listen_tcp("127.0.0.1:0").await.unwrap();
    let port = listening.local_addr().port();
    let uri = format!("nbd://sesame@127.0.0.1:{port}/");
    let conn = Connection::connect(&*uri).await.unwrap();
    conn.disconnect().await.unwrap();
    let story = log.at(Level::DEBUG);
    assert!(story.contains(&format!("127.0.0.1:{port}")), "{story}");
    assert!(!story.contains("sesame"), "{story}");
}
