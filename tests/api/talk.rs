//! Whole conversations with a server, for tests that cut them off or take them to pieces.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use nbd_client::testing::{Export, Server};
use nbd_client::wire::ReplyStyle;
use nbd_client::{Connection, Result, State};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::*;

/// How long a server that says no more is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// What [`Talk::Bulk`] reads in all.
const BULK: u64 = 64 << 10;

/// What is talked about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Talk {
    /// The oldstyle greeting, and a read.
    Oldstyle,
    /// `EXPORT_NAME` with its padding, and a read.
    ExportName,
    /// `GO` with all there is to say about an export, and one of each command.
    Go(ReplyStyle),
    /// `LIST`, in option mode.
    List,
    /// `LIST_META_CONTEXT` and `SET_META_CONTEXT`, in option mode.
    Contexts,
    /// Reads of 64 KiB in all, in small chunks.
    Bulk(ReplyStyle),
}

/// All that a client has got to know.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Heard {
    facts: Vec<String>,
    data: Vec<Bytes>,
    /// How many bytes the server has sent.
    pub(crate) bytes: u64,
}

impl Heard {
    fn fact(&mut self, fact: impl Debug) {
        self.facts.push(format!("{fact:?}"));
    }
}

impl Talk {
    /// All conversations that are mostly heads.
    pub(crate) const SHORT: [Self; 7] = [
        Self::Oldstyle,
        Self::ExportName,
        Self::Go(ReplyStyle::Simple),
        Self::Go(ReplyStyle::Structured),
        Self::Go(ReplyStyle::Extended),
        Self::List,
        Self::Contexts,
    ];

    /// A server for it.
    pub(crate) fn server(self) -> Server {
        let disk = Export::from_contents(vec![7; 1 << 17]).description("a disk");
        let disk = disk.context("x:y", [(1 << 16, 3), (1 << 16, 0)]);
        let builder = Server::builder().export("", disk).read_chunk(4096);
        match self {
            Self::Oldstyle => builder.oldstyle(true),
            Self::ExportName => builder.go(false).no_zeroes(false),
            Self::List => (0..20).fold(builder, |builder, i| {
                builder.export(format!("disk{i}"), Export::new(i).description("another"))
            }),
            _ => builder,
        }
        .build()
    }

    /// Talks with it over `stream`; an error has ended the connection.
    pub(crate) async fn hold<S>(self, stream: S) -> Result<Heard>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let conn = match self {
            Self::Go(style) => builder(style).meta_context("x:y").full_info(true),
            Self::Bulk(style) => builder(style),
            Self::List | Self::Contexts => Connection::builder().opt_mode(true),
            // with extended headers there is no EXPORT_NAME.
            Self::Oldstyle | Self::ExportName => builder(ReplyStyle::Structured),
        }
        .handshake_timeout(PATIENCE)
        .build();
        let mut heard = Heard::default();
        let result = async {
            conn.connect_stream(stream).await?;
            self.ask(&conn, &mut heard).await
        };
        match result.await {
            Ok(()) => {
                heard.bytes = conn.stats().bytes_received;
                conn.disconnect().await?;
                Ok(heard)
            }
            Err(error) => {
                conn.closed().await;
                assert!(matches!(conn.state(), State::Dead | State::Closed));
                assert_eq!(conn.in_flight(), 0);
                Err(error)
            }
        }
    }

    async fn ask(self, conn: &Connection, heard: &mut Heard) -> Result<()> {
        match self {
            Self::List => heard.fact(conn.opt_list().await?),
            Self::Contexts => {
                heard.fact(conn.opt_list_meta_context(["base:", "x:"]).await?);
                let queries = ["base:allocation", "x:y"];
                heard.fact(conn.opt_set_meta_context(queries).await?);
            }
            Self::Oldstyle | Self::ExportName => {
                heard.fact(conn.export()?);
                heard.data.push(conn.read(500, 50).timeout(PATIENCE).await?);
            }
            Self::Go(style) => {
                heard.fact(conn.export()?);
                heard.fact(conn.protocol()?);
                conn.write(512, vec![9; 100]).timeout(PATIENCE).await?;
                let data = conn.read(500, 50).timeout(PATIENCE).await?;
                assert_eq!(data[12..], [9; 38]);
                heard.data.push(data);
                if style != ReplyStyle::Simple {
                    heard.fact(conn.block_status(0, 1 << 17).timeout(PATIENCE).await?);
                }
                conn.flush().timeout(PATIENCE).await?;
            }
            Self::Bulk(_) => {
                for offset in (0..BULK).step_by(16 << 10) {
                    let data = conn.read(offset, 16 << 10).timeout(PATIENCE).await?;
                    assert!(data.iter().all(|&byte| byte == 7));
                    heard.data.push(data);
                }
            }
        }
        Ok(())
    }

    /// What is heard if nothing goes wrong.
    pub(crate) async fn whole(self) -> (Heard, usize) {
        let heard = self.hold(self.server().connect()).await.unwrap();
        let length = usize::try_from(heard.bytes).unwrap();
        (heard, length)
    }
}
