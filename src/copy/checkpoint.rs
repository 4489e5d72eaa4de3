//! What of a copy is durable, to go on with it later.

use std::ops::Range;

use crate::spans::Spans;

/// What of a copy is durable, so that another copy can [go on](crate::Copying::resume) from there, in
/// another process too. See [`checkpoints`](crate::Copying::checkpoints).
///
/// With the feature `serde` it is written as a map of `source_size`, `destination_size`, `done` (pairs
/// of offset and end, in order) and `samples` (offsets), and `only`, if only what is dirty in that metadata
/// context is copied. One that contradicts itself is refused when it
/// is read.
///
/// A program that keeps a checkpoint in a file, and goes on from there when it is run again:
///
#[cfg_attr(feature = "serde", doc = "```")]
#[cfg_attr(not(feature = "serde"), doc = "```ignore")]
/// use std::fs::{self, File};
/// use std::io::{ErrorKind, Write};
/// use std::path::Path;
/// use nbd_client::{Copied, Destination, Source, copy};
///
/// type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
///
/// async fn copy_or_go_on(from: impl Into<Source>, disk: &Path, state: &Path) -> Result<Copied> {
///     let mut copying = copy(from, Destination::file(disk));
///     match fs::read(state) {
///         Ok(json) => copying = copying.resume(serde_json::from_slice(&json)?),
///         // Nothing was interrupted: copy from the start.
///         Err(error) if error.kind() == ErrorKind::NotFound => {}
///         Err(error) => return Err(error.into()),
///     }
///     let (kept, new) = (state.to_owned(), state.with_extension("new"));
///     let copying = copying.checkpoints(move |checkpoint| {
///         let mut file = File::create(&new)?;
///         file.write_all(&serde_json::to_vec(checkpoint)?)?;
///         file.sync_all()?;
///         // So the file is always whole, whenever this process is killed.
///         fs::rename(&new, &kept)
///     });
///     let copied = copying.await?;
///     // The next copy begins from the start.
///     fs::remove_file(state)?;
///     Ok(copied)
/// }
/// # use nbd_client::{Connection, testing, wire::Errno};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// # let export = testing::Export::new(1 << 20);
/// # export.fill(0, 1 << 20, 7);
/// # let directory = tempfile::tempdir()?;
/// # let [disk, state] = ["disk.img", "copy.json"].map(|name| directory.path().join(name));
/// # let broken = testing::Server::builder()
/// #     .export("", export.clone())
/// #     .fail_with(|request| (request.offset >= 1 << 19).then(|| (Errno::EIO, "bad sector".into())))
/// #     .build();
/// # let mut reports = Vec::new();
/// # for server in [broken, testing::Server::new(export)] {
/// #     let source = Connection::new();
/// #     source.connect_stream(server.connect()).await?;
/// #     reports.push(copy_or_go_on(source, &disk, &state).await);
/// #     assert_eq!(state.exists(), reports.len() == 1);
/// # }
/// # assert!(reports[0].is_err());
/// # assert_eq!(reports.remove(1)?.skipped, 1 << 19);
/// # assert!(fs::read(&disk)? == vec![7; 1 << 20]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Form", into = "Form"))]
pub struct Checkpoint {
    pub(super) source_size: u64,
    /// `None` if the destination is as large as the source is: a file.
    pub(super) destination_size: Option<u64>,
    /// The metadata context, if only what is dirty in it is copied.
    pub(super) only: Option<String>,
    /// In bytes from the start; in order, and without touching each other.
    pub(super) done: Vec<Range<u64>>,
    /// Where both sides are compared before the copy goes on.
    pub(super) samples: Vec<u64>,
}

impl Checkpoint {
    /// How many bytes are durable.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.iter().map(|range| range.end - range.start).sum()
    }

    /// What is durable, in bytes from the start, in order.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.done
    }

    /// The size of the source in bytes.
    #[must_use]
    pub const fn source_size(&self) -> u64 {
        self.source_size
    }

    /// The same ranges as a set.
    pub(super) fn spans(&self) -> Spans<()> {
        let mut spans = Spans::default();
        for range in &self.done {
            spans.add(range.clone());
        }
        spans
    }
}

/// A checkpoint as it is written.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize, serde::Serialize)]
#[serde(rename = "Checkpoint")]
struct Form {
    source_size: u64,
    destination_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    only: Option<String>,
    done: Vec<(u64, u64)>,
    samples: Vec<u64>,
}

#[cfg(feature = "serde")]
impl From<Checkpoint> for Form {
    fn from(checkpoint: Checkpoint) -> Self {
        let pair = |range: Range<u64>| (range.start, range.end);
        Self {
            source_size: checkpoint.source_size,
            destination_size: checkpoint.destination_size,
            only: checkpoint.only,
            done: checkpoint.done.into_iter().map(pair).collect(),
            samples: checkpoint.samples,
        }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Form> for Checkpoint {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        let mut reached = 0;
        for &(start, end) in &form.done {
            if start < reached || end <= start || end > form.source_size {
                return Err(format!("the range from {start} to {end} is out of place"));
            }
            reached = end;
        }
        Ok(Self {
            source_size: form.source_size,
            destination_size: form.destination_size,
            only: form.only,
            done: form
                .done
                .into_iter()
                .map(|(start, end)| start..end)
                .collect(),
            samples: form.samples,
        })
    }
}
