//! Lists and selects metadata contexts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Negotiator, unexpected};
use crate::error::{InvalidRequest, Result};
use crate::extent::Context;
use crate::wire::option::{MAX_OPTION_REQUEST, OptionRequest};
use crate::wire::{OptionReplyType, OptionType, ProtocolError};

/// The result of the last `SET_META_CONTEXT`.
#[derive(Debug)]
pub(super) struct Selection {
    /// The export that the selection is for.
    pub(super) export: String,
    pub(super) contexts: Vec<Context>,
    /// The selected contexts that nobody asked for.
    pub(super) strays: Vec<Context>,
}

impl Negotiator {
    /// Returns whether the context was selected for this export.
    pub(in crate::driver) fn has_selected(&self, export: &str, name: &str) -> bool {
        let Some(selection) = &self.selected else {
            return false;
        };
        let is_name = |context: &Context| &*context.name == name;
        selection.export == export && selection.contexts.iter().any(is_name)
    }

    /// Lists or selects metadata contexts, and returns their names.
    pub(in crate::driver) async fn meta_context(
        &mut self,
        option: OptionType,
        export: &str,
        queries: &[String],
    ) -> Result<Vec<String>> {
        let request = OptionRequest::meta_context(option, export, queries);
        if request.data.len() > MAX_OPTION_REQUEST as usize {
            let (what, why) = (
                "metadata queries",
                "in all they are longer than 64 KiB, which servers do not take",
            );
            return Err(InvalidRequest::Argument {
                what,
                why: why.into(),
            }
            .into());
        }
        let selects = option == OptionType::SET_META_CONTEXT;
        if selects {
            // P-074: each selection replaces the former one, also when it fails.
            self.selected = None;
            self.inner.lock_facts().contexts = None;
        }
        self.start(request)?;
        let (mut contexts, mut strays) = (Vec::new(), Vec::new());
        let mut given = Given::default();
        let mut count = 0;
        loop {
            let reply = self.reply(option).await?;
            match reply.reply {
                OptionReplyType::ACK => break,
                OptionReplyType::META_CONTEXT => {}
                _ => return Err(unexpected(&reply)),
            }
            count += 1;
            if count > self.limits().contexts {
                return Err(ProtocolError::TooManyReplies(option).into());
            }
            let (id, name) = reply.parse_meta_context()?;
            let name = Arc::from(name);
            // P-076: ids mean nothing in a list.
            if selects && !given.take(id, &name)? {
                tracing::debug!(id, ?name, "a context that was given before");
                continue;
            }
            // The server will send the status of a stray, although nobody asked for it.
            let stray = selects && !selected(queries, &name);
            let list = if stray { &mut strays } else { &mut contexts };
            list.push(Context { id, name });
        }
        if !strays.is_empty() {
            tracing::debug!(?strays, "contexts that were not asked for");
        }
        let name = |context: &Context| context.name.to_string();
        let names: Vec<_> = contexts.iter().map(name).collect();
        if selects {
            self.inner.lock_facts().contexts = Some(names.clone());
            self.selected = Some(Selection {
                export: export.to_owned(),
                contexts,
                strays,
            });
        }
        Ok(names)
    }
}

/// The contexts that the server has reported in one selection.
#[derive(Default)]
struct Given {
    by_id: HashMap<u32, Arc<str>>,
    names: HashSet<Arc<str>>,
}

impl Given {
    /// Records a context. Returns `false` if it was reported before, as nbdkit does if several
    /// queries select the same context.
    ///
    /// # Errors
    /// If the id belongs to another context, or the context has another id.
    fn take(&mut self, id: u32, name: &Arc<str>) -> Result<bool, ProtocolError> {
        // P-077: contexts come in any order, ids once.
        match self.by_id.get(&id) {
            Some(known) if known == name => return Ok(false),
            Some(_) => return Err(ProtocolError::DuplicateContext(id)),
            None => {}
        }
        if !self.names.insert(name.clone()) {
            return Err(ProtocolError::DuplicateContextName((**name).into()));
        }
        self.by_id.insert(id, name.clone());
        Ok(true)
    }
}

/// Returns whether one of the queries can have selected a context of this name.
fn selected(queries: &[String], name: &str) -> bool {
    // "Metadata querying": a query in `base:` is a name. In another namespace, the namespace
    // defines what a query selects.
    let space = namespace(name).filter(|&space| space != "base");
    queries
        .iter()
        .any(|query| query == name || space.is_some() && namespace(query) == space)
}

fn namespace(text: &str) -> Option<&str> {
    text.split_once(':').map(|(space, _)| space)
}
