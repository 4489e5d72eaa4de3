//! What must be the same on a new connection.

use crate::error::Error;
use crate::export::Export;

/// What is known of an export, and must not change for the worse.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    export: Export,
    is_tls: bool,
}

impl Facts {
    pub(super) const fn new(export: Export, is_tls: bool) -> Self {
        Self { export, is_tls }
    }

    pub(super) const fn export(&self) -> &Export {
        &self.export
    }

    /// Checks the export of another connection against this one, which may be smaller if it
    /// `may_grow`.
    ///
    /// # Errors
    /// [`Error::ExportChanged`], with the first thing that is not the same.
    pub(super) fn check(&self, now: &Self, may_grow: bool) -> Result<(), Error> {
        let changed = |what, was: &dyn ToString, is: &dyn ToString| {
            let (was, is) = (was.to_string(), is.to_string());
            Err(Error::ExportChanged { what, was, is })
        };
        let (was, is) = (&self.export, &now.export);
        let grows = may_grow && was.size() < is.size();
        if was.size() != is.size() && !grows {
            return changed("its size in bytes", &was.size(), &is.size());
        }
        if was.canonical_name() != is.canonical_name() {
            let name = |export: &Export| format!("{:?}", export.canonical_name().unwrap_or(""));
            return changed("its canonical name", &name(was), &name(is));
        }
        for (what, offers) in OFFERS {
            if offers(was) && !offers(is) {
                return changed(what, &"offered", &"not");
            }
        }
        if was.alignment() < is.alignment() {
            let what = "its minimum block size in bytes";
            return changed(what, &was.alignment(), &is.alignment());
        }
        if was.max_payload() > is.max_payload() {
            let what = "its maximum payload in bytes";
            return changed(what, &was.max_payload(), &is.max_payload());
        }
        if let Some(context) = was.contexts().find(|context| !is.has_context(context)) {
            return changed("a metadata context", &format!("{context:?}"), &"missing");
        }
        if self.is_tls && !now.is_tls {
            return changed("the connection", &"encrypted", &"not");
        }
        Ok(())
    }
}

type Offer = (&'static str, fn(&Export) -> bool);

/// What a new connection must offer if the first one did.
const OFFERS: [Offer; 8] = [
    ("write access", |export| !export.is_read_only()),
    ("FLUSH", Export::can_flush),
    ("FUA", Export::can_fua),
    ("WRITE_ZEROES", Export::can_zero),
    ("TRIM", Export::can_trim),
    ("FAST_ZERO", Export::can_fast_zero),
    ("MULTI_CONN", Export::can_multi_conn),
    ("DF", Export::can_df),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ReplyStyle, TransmissionFlags as Flags};

    fn facts(size: u64, flags: Flags, is_tls: bool) -> Facts {
        let flags = flags | Flags::HAS_FLAGS;
        Facts::new(
            Export::new("", size, flags, ReplyStyle::Extended).unwrap(),
            is_tls,
        )
    }

    #[test]
    fn what_is_worse_is_named() {
        let all = Flags::SEND_FLUSH | Flags::SEND_TRIM;
        let first = facts(1 << 20, all, true);
        first.check(&first, false).unwrap();
        let better = facts(1 << 20, all | Flags::SEND_FUA, true);
        first.check(&better, false).unwrap();
        let larger = facts(1 << 21, all, true);
        first.check(&larger, true).unwrap();
        first.check(&larger, false).unwrap_err();
        for (other, what) in [
            (
                facts(1 << 19, all, true),
                "size in bytes was 1048576, and is 524288",
            ),
            (
                facts(1 << 20, Flags::SEND_TRIM, true),
                "FLUSH was offered, and is not",
            ),
            (facts(1 << 20, all | Flags::READ_ONLY, true), "write access"),
            (facts(1 << 20, all, false), "the connection was encrypted"),
        ] {
            let error = first.check(&other, true).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
