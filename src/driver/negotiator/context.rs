//! What is said about metadata contexts.

use std::collections::HashSet;

use super::{Negotiator, unexpected};
use crate::error::{Error, Result};
use crate::session::Context;
use crate::wire::option::{MAX_OPTION_REQUEST, OptionRequest};
use crate::wire::{OptionReplyType, OptionType, ProtocolError};

/// What the last `SET_META_CONTEXT` has led to.
#[derive(Debug)]
pub(super) struct Selection {
    /// The export it is for.
    pub(super) export: String,
    pub(super) contexts: Vec<Context>,
    /// Contexts that were not asked for.
    pub(super) strays: Vec<Context>,
}

impl Negotiator {
    /// Lists or selects metadata contexts; `found` gets each name.
    pub(in crate::driver) async fn meta_context(
        &mut self,
        option: OptionType,
        export: &str,
        queries: &[String],
    ) -> Result<Vec<String>> {
        let request = OptionRequest::meta_context(option, export, queries);
        if request.data.len() > MAX_OPTION_REQUEST as usize {
            let why = "they are longer than 64 KiB in all, more than servers take";
            return Err(Error::argument("metadata queries", why));
        }
        let selects = option == OptionType::SET_META_CONTEXT;
        if selects {
            // P-074: each selection replaces the former one, also when it fails.
            self.selected = None;
            self.shared.lock_facts().contexts = None;
        }
        self.start(request)?;
        let (mut contexts, mut strays) = (Vec::new(), Vec::new());
        let mut ids = HashSet::new();
        loop {
            let reply = self.reply(option).await?;
            match reply.reply {
                OptionReplyType::ACK => break,
                OptionReplyType::META_CONTEXT => {}
                _ => return Err(unexpected(&reply)),
            }
            if contexts.len() + strays.len() >= self.limits().contexts as usize {
                return Err(ProtocolError::TooManyReplies(option).into());
            }
            let (id, name) = reply.parse_meta_context()?;
            // P-076: ids mean nothing in a list. P-077: in a selection they are unique.
            if selects && !ids.insert(id) {
                return Err(ProtocolError::DuplicateContext(id).into());
            }
            // Nobody asked for its status, which is sent all the same.
            let stray = selects && !selected(queries, &name);
            let list = if stray { &mut strays } else { &mut contexts };
            list.push(Context {
                id,
                name: name.into(),
            });
        }
        if !strays.is_empty() {
            tracing::debug!(?strays, "contexts that were not asked for");
        }
        let name = |context: &Context| context.name.to_string();
        let names: Vec<_> = contexts.iter().map(name).collect();
        if selects {
            self.shared.lock_facts().contexts = Some(names.clone());
            self.selected = Some(Selection {
                export: export.to_owned(),
                contexts,
                strays,
            });
        }
        Ok(names)
    }
}

/// Whether one of the queries can have selected a context of this name.
fn selected(queries: &[String], name: &str) -> bool {
    // "Metadata querying": a query in `base:` is a name. What one in another namespace means is
    // for that to say, and so is what it selects.
    let space = namespace(name).filter(|&space| space != "base");
    queries
        .iter()
        .any(|query| query == name || space.is_some() && namespace(query) == space)
}

fn namespace(text: &str) -> Option<&str> {
    text.split_once(':').map(|(space, _)| space)
}
