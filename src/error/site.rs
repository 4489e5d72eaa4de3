//! Where something failed: which server, and which of its exports.

use std::fmt;

/// The server and the export that an error is about, as far as they are known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Site {
    /// The address of the server, or its program; `None` for a stream of the caller's.
    pub(crate) server: Option<String>,
    /// The name of the export; `None` where no export is concerned.
    pub(crate) export: Option<String>,
}

impl Site {
    /// The same server, whichever the export.
    pub(super) fn server_only(&self) -> Self {
        Self {
            server: self.server.clone(),
            export: None,
        }
    }
}

/// The beginning of a sentence; nothing where nothing is known. The default export, whose name is
/// empty, is not named.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let export = self.export.as_ref().filter(|name| !name.is_empty());
        match (&self.server, export) {
            (Some(server), Some(export)) => write!(f, "{server}, export {export:?}: "),
            (Some(server), None) => write!(f, "{server}: "),
            (None, Some(export)) => write!(f, "export {export:?}: "),
            (None, None) => Ok(()),
        }
    }
}
