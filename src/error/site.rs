//! Where something failed: which server, and which of its exports.

use std::fmt;

use crate::uri::Uri;

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

impl Site {
    /// Returns the URI of the Unix socket that was probably meant, if the export has the name of one
    /// and the server is the default one, as in `nbd:///run/nbd.sock`.
    pub(super) fn meant_socket(&self) -> Option<Uri> {
        let name = self.export.as_deref()?;
        let is_path = name.contains('/') || name.ends_with(".sock");
        let is_default = self.server.as_deref() == Some("localhost:10809");
        let uri = || Uri::unix(format!("/{name}")).build().ok();
        (is_path && is_default).then(uri)?
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
