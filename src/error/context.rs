//! Metadata contexts that a connection cannot do without, and that the server does not have.

use std::fmt;
use std::sync::Arc;

use super::{ChildReport, Site};

/// A metadata context that
/// [`Builder::require_meta_context`](crate::Builder::require_meta_context) asks for, and that the
/// server does not have for the export. The export was not entered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MissingContext {
    pub(crate) name: String,
    pub(crate) available: Vec<String>,
    /// Whether contexts could be negotiated at all.
    pub(crate) is_possible: bool,
    /// The connection has ended with it.
    pub(crate) fatal: bool,
    pub(crate) child: Option<Arc<ChildReport>>,
    pub(crate) site: Option<Arc<Site>>,
}

impl MissingContext {
    pub(crate) const fn new(name: String, available: Vec<String>, is_possible: bool) -> Self {
        Self {
            name,
            available,
            is_possible,
            fatal: false,
            child: None,
            site: None,
        }
    }

    /// The context that is missing.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The contexts that the server lists for the export; none if it lists none, or if contexts
    /// cannot be negotiated with it, for want of structured replies.
    #[must_use]
    pub fn available(&self) -> &[String] {
        &self.available
    }

    /// What is known of the server process, if this connection ran one and ended with this.
    #[must_use]
    pub fn child(&self) -> Option<&ChildReport> {
        self.child.as_deref()
    }
}

impl fmt::Display for MissingContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The most contexts that a sentence can name.
        const MOST: usize = 8;
        let Self {
            name, available, ..
        } = self;
        write!(f, "the export has no metadata context {name:?}: ")?;
        if !self.is_possible {
            return f.write_str("structured replies, which contexts need, were not negotiated");
        }
        let Some((first, others)) = available.split_first() else {
            return f.write_str("the server lists none");
        };
        write!(f, "it has {first:?}")?;
        for other in others.iter().take(MOST - 1) {
            write!(f, ", {other:?}")?;
        }
        match available.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
