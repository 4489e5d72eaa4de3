//! What there is to say about a server and its exports.

use std::io::Write;
use std::process::{Command, Stdio};

use bytes::Bytes;
use nbd_client::wire::Text;
use nbd_client::{Connection, Error, Export, Handshake, Protocol};

use super::Result;
use crate::out::complain;
use crate::server::Server;

/// How much of an export `file` gets to see, in bytes.
const SAMPLE: u64 = 8192;

/// Everything that is printed.
pub(crate) struct Report {
    pub(crate) protocol: Protocol,
    pub(crate) tls: bool,
    pub(crate) exports: Vec<Fields>,
    /// How many exports of the list cannot be described.
    pub(crate) refused: usize,
}

/// An export as keys and values, in the order in which they are printed.
pub(crate) struct Fields {
    pub(crate) name: String,
    pub(crate) fields: Vec<(&'static str, Value)>,
}

pub(crate) enum Value {
    Text(String),
    List(Vec<String>),
    Flag(bool),
    Number(u64),
    Size(u64),
}

impl Report {
    pub(crate) async fn of(server: &Server, list: bool, content: bool) -> Result<Self> {
        let conn = server
            .connect(|builder| builder.opt_mode(true).full_info(true))
            .await?;
        let mut listed = Vec::new();
        let mut exports = Vec::new();
        if list {
            check_list(&conn)?;
            for export in conn.opt_list().await? {
                let known = ask(&conn, &export.name).await?;
                listed.push((export, known));
            }
        } else {
            exports.push(describe(&conn, content).await?);
        }
        let (protocol, tls) = (conn.protocol()?, conn.is_tls());
        goodbye(&conn).await?;
        let mut refused = 0;
        for (export, known) in listed {
            match complete(server, &export.name, known, content).await {
                Ok(found) => exports.push(found.described(&export.description)),
                // The others can still be asked about.
                Err(error) => {
                    complain!("nbd info: export {:?}: {error}", export.name);
                    refused += 1;
                }
            }
        }
        Ok(Self {
            protocol,
            tls,
            exports,
            refused,
        })
    }
}

/// Ends a connection, unless the server has done so: qemu-nbd does when it cannot read.
async fn goodbye(conn: &Connection) -> Result<()> {
    if conn.is_ready() || conn.is_negotiating() {
        conn.disconnect().await?;
    }
    Ok(())
}

/// Refuses a server whose handshake has no list of exports.
fn check_list(conn: &Connection) -> Result<()> {
    match conn.protocol()?.handshake {
        Handshake::FixedNewstyle => Ok(()),
        old => Err(format!(
            "the server cannot list its exports, because its handshake is {}: leave out --list to see \
             the one that the URI names, or its only one",
            old.name()
        )
        .into()),
    }
}

/// The export whose name is set, which is entered: what the server says then is what counts. Of an
/// oldstyle server everything is known already.
async fn describe(conn: &Connection, content: bool) -> Result<Fields> {
    let mut contexts = Vec::new();
    if conn.is_negotiating() {
        contexts = available(conn).await?;
        conn.opt_go().await?;
    }
    let mut found = Fields::of(&conn.export()?, conn, contexts);
    if content {
        found.insert_content(conn).await?;
    }
    Ok(found)
}

/// What the server says of one export of several without entering it, and its size.
async fn ask(conn: &Connection, name: &str) -> Result<Option<(u64, Fields)>> {
    conn.set_export_name(name)?;
    let contexts = available(conn).await?;
    match conn.opt_info().await {
        Ok(export) => Ok(Some((export.size(), Fields::of(&export, conn, contexts)))),
        // A server may not know the option, and let the export be entered.
        Err(_) if conn.is_negotiating() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// One export of several: what is known, or more. To enter it takes a connection of its own, at a time
/// when there is no other: many servers serve one client.
async fn complete(
    server: &Server,
    name: &str,
    known: Option<(u64, Fields)>,
    content: bool,
) -> Result<Fields> {
    // nbd-server says 0 before the export is entered, whatever its size.
    let known = match known {
        Some((size, found)) if size > 0 && !content => return Ok(found),
        known => known.map(|(_, found)| found),
    };
    let entered = async {
        let conn = server
            .connect_to(name, |builder| builder.opt_mode(true).full_info(true))
            .await?;
        let found = describe(&conn, content).await?;
        goodbye(&conn).await?;
        Ok(found)
    };
    match (entered.await, known) {
        (Err(_), Some(found)) if !content => Ok(found),
        (entered, _) => entered,
    }
}

/// The metadata contexts that can be had, if the server says so.
async fn available(conn: &Connection) -> Result<Vec<String>> {
    let protocol = conn.protocol()?;
    // Without fixed newstyle nothing can be asked.
    if protocol.handshake != Handshake::FixedNewstyle || !protocol.structured_replies {
        return Ok(Vec::new());
    }
    let none: [&str; 0] = [];
    Ok(conn.opt_list_meta_context(none).await.unwrap_or_default())
}

impl Fields {
    /// An export, as the server says, and the connection by which its name was set.
    fn of(export: &Export, conn: &Connection, contexts: Vec<String>) -> Self {
        // A connection over a command has no URI.
        let uri = conn.uri().ok().map(|uri| uri.to_string());
        let mut fields = Vec::new();
        if let Some(description) = export.description().filter(|text| !text.is_empty()) {
            let text = description.as_str().to_owned();
            fields.push(("description", Value::Text(text)));
        }
        fields.push(("export-size", Value::Size(export.size())));
        fields.extend(uri.map(|uri| ("uri", Value::Text(uri))));
        if !contexts.is_empty() {
            fields.push(("contexts", Value::List(contexts)));
        }
        for (key, flag) in [
            ("is_rotational", export.is_rotational()),
            ("is_read_only", export.is_read_only()),
            (
                "can_block_status_payload",
                export.can_block_status_payload(),
            ),
            ("can_cache", export.can_cache()),
            ("can_df", export.can_df()),
            ("can_fast_zero", export.can_fast_zero()),
            ("can_flush", export.can_flush()),
            ("can_fua", export.can_fua()),
            ("can_multi_conn", export.can_multi_conn()),
            ("can_trim", export.can_trim()),
            ("can_zero", export.can_zero()),
        ] {
            fields.push((key, Value::Flag(flag)));
        }
        if let Some(sizes) = export.block_size() {
            for (key, size) in [
                ("block_size_minimum", sizes.minimum),
                ("block_size_preferred", sizes.preferred),
                ("block_size_maximum", sizes.maximum),
            ] {
                fields.push((key, Value::Number(size.into())));
            }
        }
        let payload = export.max_payload().into();
        fields.push(("block_size_payload", Value::Number(payload)));
        // What the server calls it is the better name.
        let name = export.canonical_name().map(str::to_owned);
        let name = name.unwrap_or_else(|| conn.export_name());
        Self { name, fields }
    }

    /// Prefers the description of the list of exports.
    fn described(mut self, description: &Text) -> Self {
        if !description.is_empty() {
            self.fields.retain(|(key, _)| *key != "description");
            let text = description.as_str().to_owned();
            self.fields.insert(0, ("description", Value::Text(text)));
        }
        self
    }

    /// Adds what the export contains, after its size, if that can be read. A server that is silent is
    /// another matter.
    async fn insert_content(&mut self, conn: &Connection) -> Result<()> {
        let data = match beginning(conn).await {
            Ok(data) => data,
            Err(error @ Error::Timeout(..)) => return Err(error.into()),
            Err(error) => {
                complain!(
                    "nbd info: what export {:?} contains is not known: {error}",
                    self.name
                );
                return Ok(());
            }
        };
        if let Some(content) = kind(&data)? {
            let is_size = |(_, value): &(_, Value)| matches!(value, Value::Size(_));
            let at = self.fields.iter().position(is_size).unwrap_or_default();
            let field = ("content", Value::Text(content));
            self.fields.insert(at + 1, field);
        }
        Ok(())
    }
}

/// The beginning of the export.
async fn beginning(conn: &Connection) -> nbd_client::Result<Bytes> {
    let size = conn.size()?;
    let block = conn.export()?.block_size().map_or(1, |sizes| sizes.minimum);
    let length = size.min(SAMPLE).next_multiple_of(block.into()).min(size);
    match usize::try_from(length).unwrap_or(usize::MAX) {
        0 => Ok(Bytes::new()),
        length => conn.read(0, length).await,
    }
}

/// What `file` takes the beginning of an export for; nothing if it is not installed.
fn kind(data: &[u8]) -> Result<Option<String>> {
    let file = Command::new("file")
        .args(["-b", "-"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut file) = file else {
        return Ok(None);
    };
    if let Some(mut stdin) = file.stdin.take() {
        // It may know enough before it has read everything.
        let _ = stdin.write_all(data);
    }
    let output = file.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned();
    Ok(output.status.success().then_some(text))
}
