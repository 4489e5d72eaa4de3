//! Option mode: sends options one by one, on behalf of the handles.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

use super::handshake::enter;
use super::inner::Inner;
use super::negotiator::{Ask, Negotiator};
use super::parting::LEAVE;
use super::timer::{after, until};
use crate::error::{Error, InvalidRequest, Phase, Result};
use crate::export::{Export, Handshake, ListedExport};
use crate::state::State;
use crate::wire::OptionType;

/// The channel for the answer to an option. The receiver may be gone.
pub(crate) type Answer<T> = oneshot::Sender<Result<T>>;

/// An option that a handle has asked for.
#[derive(Debug)]
pub(crate) enum OptionCall {
    List(Answer<Vec<ListedExport>>),
    Info(Answer<Export>),
    Go(Answer<()>),
    Abort(Answer<()>),
    Feature(OptionType, Answer<bool>),
    StartTls(Answer<bool>),
    MetaContext(OptionType, Vec<String>, Answer<Vec<String>>),
}

/// The end of option mode.
pub(super) enum Outcome {
    /// The export was entered. The caller of `opt_go` is answered when the state is ready.
    Entered(Export, Answer<()>),
    /// The negotiation was aborted, by `opt_abort` or because every handle is gone.
    Aborted(Option<Answer<()>>),
}

/// Serves options until one of them ends the negotiation.
pub(super) async fn serve(
    inner: &Inner,
    negotiator: &mut Negotiator,
    calls: &mut mpsc::Receiver<OptionCall>,
) -> Result<Outcome> {
    loop {
        inner.set_state(State::Negotiating);
        let call = tokio::select! {
            call = calls.recv() => call,
            () = inner.detached.cancelled() => None,
            error = negotiator.unsolicited() => return Err(error),
        };
        let Some(call) = call else {
            let patience = inner.config.shutdown_timeout.min(LEAVE);
            negotiator.leave(after(patience)).await;
            return Ok(Outcome::Aborted(None));
        };
        inner.set_state(State::Connecting);
        if let Some(outcome) = run(inner, negotiator, call).await? {
            return Ok(outcome);
        }
    }
}

async fn run(
    inner: &Inner,
    negotiator: &mut Negotiator,
    call: OptionCall,
) -> Result<Option<Outcome>> {
    let fixed = negotiator.handshake == Handshake::FixedNewstyle;
    match call {
        OptionCall::Abort(answer) => {
            negotiator.leave(after(inner.config.shutdown_timeout)).await;
            return Ok(Some(Outcome::Aborted(Some(answer))));
        }
        OptionCall::Go(answer) => {
            let result = within(inner, enter(inner, negotiator)).await;
            return match fate(inner, negotiator, result).await {
                Fate::Over(Ok(export)) => Ok(Some(Outcome::Entered(export, answer))),
                Fate::Over(Err(error)) => {
                    inner.lock_facts().export = None;
                    settle(inner, answer, Err(error));
                    Ok(None)
                }
                Fate::Fatal(error) => Err(error),
            };
        }
        // P-016: without fixed newstyle, only EXPORT_NAME may be sent.
        call if !fixed => call.refuse(inner),
        OptionCall::List(answer) => {
            let result = within(inner, negotiator.list()).await;
            conclude(inner, negotiator, result, answer).await?;
        }
        OptionCall::Info(answer) => {
            let result = within(inner, info(inner, negotiator)).await;
            inner.lock_facts().export = result.as_ref().ok().cloned().map(Into::into);
            conclude(inner, negotiator, result, answer).await?;
        }
        OptionCall::Feature(option, answer) => {
            let result = within(inner, negotiator.feature(option)).await;
            inner.lock_facts().protocol = Some(negotiator.protocol());
            conclude(inner, negotiator, result, answer).await?;
        }
        OptionCall::StartTls(answer) => {
            let result = within(inner, starttls(inner, negotiator)).await;
            let result = result.map_err(|error| match error {
                Error::Timeout(..) => Error::timeout(Phase::Tls, inner.config.handshake_timeout),
                error => error,
            });
            inner.lock_facts().protocol = Some(negotiator.protocol());
            conclude(inner, negotiator, result, answer).await?;
        }
        OptionCall::MetaContext(option, queries, answer) => {
            let name = inner.export_options().export_name;
            let result = within(inner, negotiator.meta_context(option, &name, &queries)).await;
            conclude(inner, negotiator, result, answer).await?;
        }
    }
    Ok(None)
}

/// Sends `STARTTLS`. Returns `false` if the server refuses it.
async fn starttls(inner: &Inner, negotiator: &mut Negotiator) -> Result<bool> {
    match negotiator.starttls(&inner.tls()).await {
        Ok(()) => Ok(true),
        Err(Error::Refused(refusal)) if !refusal.is_shutdown() => {
            tracing::debug!(%refusal, "the server refused TLS");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Sends `INFO`, after selecting the contexts that `GO` would select.
async fn info(inner: &Inner, negotiator: &mut Negotiator) -> Result<Export> {
    let export_options = inner.export_options();
    super::handshake::select_contexts(negotiator, &export_options).await?;
    let ask = Ask {
        full: export_options.full_info,
        block_size: export_options.request_block_size,
    };
    negotiator
        .info(OptionType::INFO, &export_options.export_name, ask)
        .await
}

/// Runs one option with its deadline, and stops when every handle is gone.
async fn within<T>(inner: &Inner, option: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = inner.config.handshake_timeout;
    tokio::select! {
        result = until(after(limit), option) => {
            result.unwrap_or_else(|| Err(Error::timeout(Phase::Handshake, limit)))
        }
        () = inner.detached.cancelled() => Err(Error::closed()),
    }
}

/// The consequence of an option's result for the negotiation.
enum Fate<T> {
    /// The option is over, and the negotiation goes on.
    Over(Result<T>),
    /// The connection is over. The caller gets the cause when the connection has ended.
    Fatal(Error),
}

async fn fate<T>(inner: &Inner, negotiator: &mut Negotiator, result: Result<T>) -> Fate<T> {
    match result {
        // P-033: a server that is shutting down is left with ABORT.
        Err(Error::Refused(refusal)) if refusal.is_shutdown() => {
            negotiator.leave(after(inner.config.shutdown_timeout)).await;
            Fate::Fatal(Error::Refused(refusal))
        }
        // P-052: a refusal leaves negotiation usable.
        Ok(value) => Fate::Over(Ok(value)),
        Err(error) if error.leaves_negotiation() => Fate::Over(Err(error)),
        Err(error) => Fate::Fatal(error),
    }
}

async fn conclude<T>(
    inner: &Inner,
    negotiator: &mut Negotiator,
    result: Result<T>,
    answer: Answer<T>,
) -> Result<()> {
    match fate(inner, negotiator, result).await {
        Fate::Over(result) => {
            settle(inner, answer, result);
            Ok(())
        }
        Fate::Fatal(error) => Err(error),
    }
}

/// Sets the state back to negotiating, and answers the caller.
fn settle<T>(inner: &Inner, answer: Answer<T>, result: Result<T>) {
    inner.set_state(State::Negotiating);
    let _ = answer.send(result.map_err(|error| error.at(&inner.site())));
}

impl OptionCall {
    fn refuse(self, inner: &Inner) {
        fn refuse<T>(inner: &Inner, answer: Answer<T>) {
            let why = "the server does not speak fixed newstyle: no option but GO is possible";
            settle(
                inner,
                answer,
                Err(InvalidRequest::NotNegotiated(why).into()),
            );
        }
        match self {
            Self::List(to) => refuse(inner, to),
            Self::Info(to) => refuse(inner, to),
            Self::Go(to) | Self::Abort(to) => refuse(inner, to),
            Self::Feature(_, to) | Self::StartTls(to) => refuse(inner, to),
            Self::MetaContext(_, _, to) => refuse(inner, to),
        }
    }
}
