//! What is said about metadata contexts.

use std::collections::HashSet;

use super::{Negotiator, unexpected};
use crate::error::{Error, Result};
use crate::session::Context;
use crate::wire::option::{MAX_OPTION_REQUEST, OptionRequest};
use crate::wire::{OptionReplyType, OptionType, ProtocolError};

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
        let mut contexts: Vec<Context> = Vec::new();
        let mut ids = HashSet::new();
        loop {
            let reply = self.reply(option).await?;
            match reply.reply {
                OptionReplyType::ACK => break,
                OptionReplyType::META_CONTEXT => {}
                _ => return Err(unexpected(&reply)),
            }
            if contexts.len() >= self.limits().contexts as usize {
                return Err(ProtocolError::TooManyReplies(option).into());
            }
            let (id, name) = reply.parse_meta_context()?;
            // P-076: ids mean nothing in a list. P-077: in a selection they are unique.
            if selects && !ids.insert(id) {
                return Err(ProtocolError::DuplicateContext(id).into());
            }
            contexts.push(Context {
                id,
                name: name.into(),
            });
        }
        let names: Vec<_> = contexts
            .iter()
            .map(|context| context.name.to_string())
            .collect();
        if selects {
            self.shared.lock_facts().contexts = Some(names.clone());
            self.selected = Some((export.to_owned(), contexts));
        }
        Ok(names)
    }
}
