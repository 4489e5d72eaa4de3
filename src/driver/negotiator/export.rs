//! Options about exports: `LIST`, `INFO`, `GO` and `EXPORT_NAME`.

use super::{Negotiator, unexpected};
use crate::error::{Error, Phase, Result};
use crate::export::{BlockSize, Export, ListedExport};
use crate::limits::MAX_INFOS;
use crate::wire::codec::{Expect, ServerMessage};
use crate::wire::option::{ExportInfo, Info, OptionRequest};
use crate::wire::{InfoType, OptionReplyType, OptionType, ProtocolError, Text};

/// The information to request about an export.
#[derive(Clone, Copy, Debug)]
pub(in crate::driver) struct Ask {
    /// Whether to request canonical name and description.
    pub(in crate::driver) full: bool,
    /// Whether to request block sizes, which is a promise to obey them.
    pub(in crate::driver) block_size: bool,
}

impl Negotiator {
    /// Lists the exports.
    pub(in crate::driver) async fn list(&mut self) -> Result<Vec<ListedExport>> {
        let option = OptionType::LIST;
        self.start(OptionRequest::bare(option))?;
        let limits = *self.limits();
        let (most, most_bytes) = (limits.listed_exports as usize, limits.listed_bytes as usize);
        let mut exports = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        loop {
            let reply = self.reply(option).await?;
            match reply.reply {
                OptionReplyType::ACK => return Ok(exports),
                OptionReplyType::SERVER => {
                    count += 1;
                    bytes += reply.payload.len();
                    if count > most || bytes > most_bytes {
                        return Err(ProtocolError::TooManyReplies(option).into());
                    }
                    match reply.parse_server() {
                        Ok((name, description)) => {
                            exports.push(ListedExport { name, description });
                        }
                        // L03: an export whose name is not a valid string is left out.
                        Err(ProtocolError::Text(_)) => {
                            tracing::debug!("an export whose name is no string");
                        }
                        Err(violation) => return Err(violation.into()),
                    }
                }
                _ => return Err(unexpected(&reply)),
            }
        }
    }

    /// Asks about an export with `INFO`, or enters it with `GO`.
    pub(in crate::driver) async fn info(
        &mut self,
        option: OptionType,
        name: &str,
        ask: Ask,
    ) -> Result<Export> {
        let mut asked = Vec::new();
        // P-110: block sizes are requested with GO.
        if ask.block_size {
            asked.push(InfoType::BLOCK_SIZE);
        }
        if ask.full {
            asked.extend([InfoType::NAME, InfoType::DESCRIPTION]);
        }
        self.start(OptionRequest::info(option, name, &asked))?;
        let mut said = Said::default();
        let mut count = 0;
        loop {
            let reply = match self.reply(option).await {
                // "Option types": a server sends this only if block sizes were not requested.
                Err(Error::Refused(refusal))
                    if ask.block_size && refusal.reply == OptionReplyType::ERR_BLOCK_SIZE_REQD =>
                {
                    let reply = refusal.reply;
                    return Err(ProtocolError::UnexpectedOptionReply { option, reply }.into());
                }
                reply => reply?,
            };
            match reply.reply {
                OptionReplyType::ACK => break,
                OptionReplyType::INFO => count += 1,
                _ => return Err(unexpected(&reply)),
            }
            if count > MAX_INFOS {
                return Err(ProtocolError::TooManyReplies(option).into());
            }
            said.take(option, Info::decode(&reply.payload)?, ask)?;
        }
        // P-048: an ACK without size and flags is a violation.
        let info = said.export.ok_or(ProtocolError::NoExportInfo(option))?;
        let mut export = self.export(name, info)?;
        export.block_size = said.block_size;
        export.canonical_name = said.name.flatten();
        export.description = said.description;
        Ok(export)
    }

    /// Enters an export with `EXPORT_NAME`. A server that refuses closes the connection.
    pub(in crate::driver) async fn export_name(&mut self, name: &str) -> Result<Export> {
        self.start(OptionRequest::export_name(name))?;
        self.expect(Expect::Export {
            padding: self.is_padded(),
        });
        match self.receive(Phase::Handshake).await {
            Ok(ServerMessage::Export(info)) if info.is_option_reply() => {
                Err(ProtocolError::NoExportInfo(OptionType::EXPORT_NAME).into())
            }
            Ok(ServerMessage::Export(info)) => Ok(self.export(name, info)?),
            Ok(_) => Err(ProtocolError::NoExportInfo(OptionType::EXPORT_NAME).into()),
            // P-018: a server refuses by closing the connection.
            Err(Error::Disconnected(..)) => Err(Error::eof(Phase::Handshake)),
            Err(error) => Err(error),
        }
    }
}

/// The information about an export in the replies to one option.
#[derive(Default)]
struct Said {
    export: Option<ExportInfo>,
    block_size: Option<BlockSize>,
    /// The canonical name; the inner value is `None` if it is not a valid string.
    name: Option<Option<String>>,
    description: Option<Text>,
}

impl Said {
    /// Records one piece of information (P-047: they come in any order).
    ///
    /// # Errors
    /// If it contradicts an earlier one, or is impossible.
    fn take(&mut self, option: OptionType, info: Info, ask: Ask) -> Result<(), ProtocolError> {
        let (agrees, info) = match info {
            Info::Export(facts) => (keep(&mut self.export, facts), InfoType::EXPORT),
            Info::Name(name) if ask.full => (keep(&mut self.name, name), InfoType::NAME),
            Info::Description(text) if ask.full => {
                (keep(&mut self.description, text), InfoType::DESCRIPTION)
            }
            // P-111: block sizes bind only a client that requested them.
            Info::BlockSize {
                minimum,
                preferred,
                maximum,
            } if ask.block_size => {
                let sizes = BlockSize::new(minimum, preferred, maximum)?;
                (keep(&mut self.block_size, sizes), InfoType::BLOCK_SIZE)
            }
            // P-046, P-050: information that is unknown or was not requested is ignored.
            _ => return Ok(()),
        };
        if agrees {
            Ok(())
        } else {
            Err(ProtocolError::ContradictoryInfo { option, info })
        }
    }
}

/// Keeps the first answer. Returns `false` if `answer` differs from it.
fn keep<T: PartialEq>(slot: &mut Option<T>, answer: T) -> bool {
    match slot {
        Some(first) => *first == answer,
        None => {
            *slot = Some(answer);
            true
        }
    }
}
