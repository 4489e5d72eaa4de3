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
    use crate::export::BlockSize;
    use crate::extent::Context;
    use crate::wire::{ReplyStyle, TransmissionFlags as Flags};

    const SIZE: u64 = 1 << 20;

    /// All that an export can offer, and be written.
    const ALL: Flags = Flags::all()
        .difference(Flags::READ_ONLY)
        .difference(Flags::SEND_RESIZE);

    /// An encrypted connection to an export with everything that is compared.
    fn facts(flags: Flags) -> Facts {
        let mut export = Export::new("", SIZE, flags, ReplyStyle::Extended).unwrap();
        export.canonical_name = Some("disk".into());
        export.block_size = BlockSize::new(512, 4096, 1 << 20).ok();
        export.contexts = vec![context(1, "base:allocation"), context(2, "x:y")];
        Facts::new(export, true)
    }

    fn context(id: u32, name: &str) -> Context {
        let name = name.into();
        Context { id, name }
    }

    fn without(flag: Flags) -> Facts {
        facts(ALL - flag)
    }

    fn with(change: impl FnOnce(&mut Facts)) -> Facts {
        let mut facts = facts(ALL);
        change(&mut facts);
        facts
    }

    fn sized(minimum: u32, maximum: u32) -> Facts {
        with(|facts| facts.export.block_size = BlockSize::new(minimum, 4096, maximum).ok())
    }

    fn named(name: Option<&str>) -> Facts {
        with(|facts| facts.export.canonical_name = name.map(Into::into))
    }

    fn of_size(size: u64) -> Facts {
        with(|facts| facts.export.size = size)
    }

    #[test]
    fn what_is_worse_is_named() {
        let first = facts(ALL);
        let size = "its size in bytes";
        let name = "its canonical name";
        let block = "its minimum block size in bytes";
        let payload = "its maximum payload in bytes";
        let missing = |name| with(|facts| facts.export.contexts.retain(|it| &*it.name != name));
        let limited = with(|facts| facts.export.payload_limit = 1 << 16);
        let local = with(|facts| facts.export.read_only = true);
        for (now, what, was, is) in [
            (of_size(SIZE - 512), size, "1048576", "1048064"),
            (of_size(0), size, "1048576", "0"),
            (named(Some("other")), name, r#""disk""#, r#""other""#),
            (named(None), name, r#""disk""#, r#""""#),
            (
                facts(ALL | Flags::READ_ONLY),
                "write access",
                "offered",
                "not",
            ),
            (local, "write access", "offered", "not"),
            (without(Flags::SEND_FLUSH), "FLUSH", "offered", "not"),
            (without(Flags::SEND_FUA), "FUA", "offered", "not"),
            (
                without(Flags::SEND_WRITE_ZEROES),
                "WRITE_ZEROES",
                "offered",
                "not",
            ),
            (without(Flags::SEND_TRIM), "TRIM", "offered", "not"),
            (
                without(Flags::SEND_FAST_ZERO),
                "FAST_ZERO",
                "offered",
                "not",
            ),
            (
                without(Flags::CAN_MULTI_CONN),
                "MULTI_CONN",
                "offered",
                "not",
            ),
            (without(Flags::SEND_DF), "DF", "offered", "not"),
            (sized(1024, 1 << 20), block, "512", "1024"),
            (sized(512, 1 << 19), payload, "1048576", "524288"),
            (limited, payload, "1048576", "65536"),
            (
                missing("base:allocation"),
                "a metadata context",
                r#""base:allocation""#,
                "missing",
            ),
            (missing("x:y"), "a metadata context", r#""x:y""#, "missing"),
            (
                with(|facts| facts.is_tls = false),
                "the connection",
                "encrypted",
                "not",
            ),
        ] {
            // What may be larger is still compared with all that there was.
            for may_grow in [false, true] {
                let error = first.check(&now, may_grow).unwrap_err();
                let Error::ExportChanged {
                    what: a,
                    was: b,
                    is: c,
                } = &error
                else {
                    panic!("{error:?}");
                };
                assert_eq!((*a, &**b, &**c), (what, was, is));
            }
        }
    }

    #[test]
    fn without_block_sizes_there_is_no_minimum() {
        let (none, some) = (with(|facts| facts.export.block_size = None), facts(ALL));
        some.check(&none, false).unwrap();
        let text = none.check(&some, false).unwrap_err().to_string();
        let expected = "its minimum block size in bytes was 1, and is 512";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn what_is_the_same_or_better_is_taken() {
        let least = with(|facts| {
            facts.export.flags = Flags::HAS_FLAGS | Flags::READ_ONLY;
            facts.export.contexts.clear();
            facts.is_tls = false;
        });
        let better = facts(ALL);
        least.check(&better, false).unwrap();
        better.check(&better, false).unwrap();
        sized(1024, 1 << 19).check(&better, false).unwrap();
        // The server chooses the numbers of contexts, and their order.
        let turned = vec![context(1, "x:y"), context(7, "base:allocation")];
        let turned = with(|facts| facts.export.contexts = turned);
        better.check(&turned, false).unwrap();
        // It may be larger only if that was said.
        better.check(&of_size(SIZE + 512), true).unwrap();
        better.check(&of_size(SIZE + 512), false).unwrap_err();
    }
}
