//! The handshake from the greeting to the transmission phase, or to option mode.

use std::sync::Arc;

use tokio::time::Instant;

use super::inner::Inner;
use super::negotiator::{Ask, Greeted, Negotiator};
use crate::config::ExportOptions;
use crate::driver::timer::after;
use crate::error::{Error, InvalidRequest, MissingContext, Phase, Result};
use crate::export::{Export, Handshake};
use crate::transport::Transport;
use crate::transport::tls::TlsMode;
use crate::wire::{OptionReplyType, OptionType, ReplyStyle};

/// The result of the automatic part of the handshake.
pub(super) enum Established {
    /// The export is entered.
    Ready(Negotiator, Export),
    /// Option mode: the caller sends the options that follow.
    Negotiating(Negotiator),
}

/// Runs the automatic part of the handshake, which must end by `deadline`. `phase` is updated as
/// the handshake proceeds.
pub(super) async fn establish(
    inner: &Arc<Inner>,
    transport: Transport,
    phase: &mut Phase,
    deadline: Instant,
) -> Result<Established> {
    let config = &inner.config;
    let mut negotiator = Negotiator::new(inner.clone(), transport);
    let mode = inner.lock_tls().mode;
    *phase = Phase::Greeting;
    if let Greeted::Oldstyle(info) = negotiator.greet(config.handshake_flags, mode).await? {
        require_contexts(inner, &mut negotiator).await?;
        // Oldstyle has no options, so option mode is skipped too.
        let export = negotiator.oldstyle_export(info)?;
        inner.lock_facts().protocol = Some(negotiator.protocol());
        return Ok(Established::Ready(negotiator, export));
    }
    tracing::debug!(
        handshake = negotiator.handshake.name(),
        "the server greeted"
    );
    // P-096: STARTTLS is the first option; P-102: nothing is agreed before it.
    if mode != TlsMode::Disable && negotiator.handshake == Handshake::FixedNewstyle {
        *phase = Phase::Tls;
        secure(inner, &mut negotiator, mode, deadline).await?;
    }
    *phase = Phase::Handshake;
    match proceed(inner, &mut negotiator).await {
        Ok(Some(export)) => Ok(Established::Ready(negotiator, export)),
        Ok(None) => Ok(Established::Negotiating(negotiator)),
        Err(error) => {
            if error.leaves_negotiation() {
                let until = after(inner.config.shutdown_timeout).min(deadline);
                negotiator.leave(until).await;
            }
            Err(error)
        }
    }
}

/// Asks for the features, and enters the export unless option mode was asked for.
async fn proceed(inner: &Inner, negotiator: &mut Negotiator) -> Result<Option<Export>> {
    let config = &inner.config;
    if negotiator.handshake == Handshake::FixedNewstyle && config.structured_replies {
        // structured replies only where extended headers are refused.
        let extended = config.extended_headers
            && !config.force_export_name
            && negotiator.feature(OptionType::EXTENDED_HEADERS).await?;
        if !extended {
            negotiator.feature(OptionType::STRUCTURED_REPLY).await?;
        }
    }
    inner.lock_facts().protocol = Some(negotiator.protocol());
    if config.opt_mode {
        return Ok(None);
    }
    enter(inner, negotiator).await.map(Some)
}

/// Upgrades to TLS. A refusal is an error only if the mode is `Require`.
async fn secure(
    inner: &Inner,
    negotiator: &mut Negotiator,
    mode: TlsMode,
    deadline: Instant,
) -> Result<()> {
    match negotiator.starttls(&inner.tls()).await {
        Err(Error::Refused(refusal)) if mode == TlsMode::Prefer && !refusal.is_shutdown() => {
            tracing::debug!(%refusal, "going on in clear");
            Ok(())
        }
        // P-097: refused TLS ends a connection that requires it.
        Err(error @ Error::Refused(_)) => {
            let until = after(inner.config.shutdown_timeout).min(deadline);
            negotiator.leave(until).await;
            Err(error)
        }
        result => result,
    }
}

/// Selects the requested contexts, and enters the export.
pub(super) async fn enter(inner: &Inner, negotiator: &mut Negotiator) -> Result<Export> {
    let export_options = inner.export_options();
    let name = &export_options.export_name;
    if negotiator.handshake == Handshake::Newstyle {
        require_contexts(inner, negotiator).await?;
        return negotiator.export_name(name).await;
    }
    select_contexts(negotiator, &export_options).await?;
    require_contexts(inner, negotiator).await?;
    if inner.config.force_export_name {
        // no EXPORT_NAME after extended headers.
        if negotiator.style == ReplyStyle::Extended {
            let why = "EXPORT_NAME cannot be sent once extended headers are agreed";
            return Err(InvalidRequest::NotNegotiated(why).into());
        }
        return negotiator.export_name(name).await;
    }
    let ask = Ask {
        full: export_options.full_info,
        block_size: export_options.request_block_size,
    };
    // P-043: GO is preferred to EXPORT_NAME.
    match negotiator.info(OptionType::GO, name, ask).await {
        // P-044: EXPORT_NAME where GO is not known; X-04: but not after extended headers.
        Err(Error::Refused(refusal))
            if refusal.reply == OptionReplyType::ERR_UNSUP
                && negotiator.style != ReplyStyle::Extended =>
        {
            negotiator.export_name(name).await
        }
        result => result,
    }
}

/// Selects the requested contexts, if the server can have any. A refusal is no failure: without
/// contexts, only block status is unavailable.
pub(super) async fn select_contexts(
    negotiator: &mut Negotiator,
    export_options: &ExportOptions,
) -> Result<()> {
    // P-070: contexts need structured replies.
    if export_options.contexts.is_empty()
        || !export_options.request_meta_context
        || negotiator.style == ReplyStyle::Simple
    {
        return Ok(());
    }
    let (option, name) = (OptionType::SET_META_CONTEXT, &export_options.export_name);
    match negotiator
        .meta_context(option, name, &export_options.contexts)
        .await
    {
        Err(Error::Refused(refusal)) if !refusal.is_shutdown() => {
            tracing::debug!(%refusal, "no metadata contexts");
            Ok(())
        }
        result => result.map(drop),
    }
}

/// Checks that all contexts were selected that the caller requires.
///
/// # Errors
/// [`Error::MissingContext`] for the first one that was not, with those that the server lists.
async fn require_contexts(inner: &Inner, negotiator: &mut Negotiator) -> Result<()> {
    let export_options = inner.export_options();
    let export = &export_options.export_name;
    let missing = |name: &String| !negotiator.has_selected(export, name);
    let Some(name) = export_options.required.into_iter().find(missing) else {
        return Ok(());
    };
    let is_possible = negotiator.style != ReplyStyle::Simple;
    let available = if is_possible {
        let option = OptionType::LIST_META_CONTEXT;
        match negotiator.meta_context(option, export, &[]).await {
            Err(Error::Refused(refusal)) if !refusal.is_shutdown() => Vec::new(),
            listed => listed?,
        }
    } else {
        Vec::new()
    };
    Err(Error::MissingContext(MissingContext::new(
        name,
        available,
        is_possible,
    )))
}
