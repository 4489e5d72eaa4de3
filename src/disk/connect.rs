//! How links are made.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::builder::Settings;
use super::hub::{Hub, Link};
use super::policy::Retry;
use super::same::Facts;
use crate::connection::{Builder, Connection, Connector};
use crate::error::{Error, Phase, Result};
use crate::wire::OptionReplyType;

/// The deadline of each step towards a link that is not the only one: a server at its limit may take
/// the connection and never speak, or never answer.
const FURTHER: Duration = Duration::from_secs(10);

/// Connects for the first time, as often as it takes, until the longest outage is over.
pub(super) async fn first(settings: &Settings, connector: &Connector) -> Result<Connection> {
    let mut backoff = Backoff::new(settings.retry, Instant::now());
    backoff.lost(Instant::now());
    let end = backoff.end(Instant::now());
    let mut cause = None;
    loop {
        let connecting = settings.link.connect(connector.clone());
        let error = match tokio::time::timeout_at(end, connecting).await {
            Ok(Err(error)) if !is_final(&error, &settings.retry) => error,
            Ok(result) => return result,
            // There is no time left, and the last cause says why.
            Err(_) => {
                let none = || Error::timeout(Phase::Connect, settings.retry.outage);
                cause.take().unwrap_or_else(none)
            }
        };
        match backoff.next(Instant::now()) {
            Some((_, delay)) => tokio::time::sleep(delay).await,
            None => {
                let mut attempts = backoff.attempts(Instant::now());
                // The first one was not a repetition.
                attempts.count += 1;
                return Err(error.after_attempts(attempts));
            }
        }
        cause = Some(error);
    }
}

/// Connects in place of what was lost. If the next connection shows another state of the export, the
/// disk has ended.
pub(super) async fn again(hub: &Hub, connector: Connector) -> Result<Connection> {
    let connection = connect(hub, hub.settings.link.clone(), connector, None).await?;
    match identified(hub, &connection).await {
        Err(error) if !was_lost(&error) => {
            hub.give_up(error.clone());
            Err(error)
        }
        result => result.map(|()| connection),
    }
}

/// Whether an error says that the connection was lost, and nothing of the export.
fn was_lost(error: &Error) -> bool {
    error.is_fatal() && !matches!(error, Error::Closed(_))
}

/// Connects once more beside the links that there are.
///
/// # Errors
/// A timeout, if none of them shows that the server is still the same.
pub(super) async fn further(hub: &Hub, connector: Connector) -> Result<Connection> {
    let builder = hub.settings.link.clone().handshake_timeout(FURTHER);
    let beside = hub.links().into_iter().next();
    let connection = connect(hub, builder, connector, beside).await?;
    let identified = identified(hub, &connection);
    match tokio::time::timeout(FURTHER, identified).await {
        Ok(result) => result?,
        Err(_) => return Err(Error::timeout(Phase::Request, FURTHER)),
    }
    match answers(hub.links(), FURTHER).await {
        true => Ok(connection),
        false => Err(Error::timeout(Phase::Stall, FURTHER)),
    }
}

/// Returns whether the server answers in time over a link that was there before: then it has not been
/// restarted, and what was written over the others is not lost.
pub(super) async fn answers(links: Vec<Arc<Link>>, limit: Duration) -> bool {
    let ping = async |link: Arc<Link>| link.connection.ping().await.is_ok();
    let pings: FuturesUnordered<_> = links.into_iter().map(ping).collect();
    let answer = pings.any(std::future::ready);
    tokio::time::timeout(limit, answer).await.unwrap_or(false)
}

/// Makes a connection, and checks that it leads to the same export. It leads to the process of another
/// link if that listens.
async fn connect(
    hub: &Hub,
    builder: Builder,
    connector: Connector,
    beside: Option<Arc<Link>>,
) -> Result<Connection> {
    let beside = match &beside {
        Some(link) => builder.connect_beside(&link.connection).await,
        None => None,
    };
    let connection = match beside {
        Some(connected) => connected?,
        None => builder.connect(connector).await?,
    };
    let now = Facts::new(connection.export()?, connection.is_tls());
    hub.facts.check(&now, hub.settings.may_grow)?;
    Ok(connection)
}

/// Asks the caller whether a connection shows the same state of the export.
async fn identified(hub: &Hub, connection: &Connection) -> Result<()> {
    match &hub.settings.identify {
        Some(identify) => identify(connection.clone()).await,
        None => Ok(()),
    }
}

/// Whether connecting again is no use.
pub(super) fn is_final(error: &Error, retry: &Retry) -> bool {
    match error {
        Error::Refused(refusal) if refusal.reply() == OptionReplyType::ERR_UNKNOWN => {
            !retry.export_may_appear
        }
        Error::Protocol(..)
        | Error::Invalid(_)
        | Error::InvalidUse(_)
        | Error::MissingContext(_) => true,
        Error::Tls(error, _) => !error.is_retryable(),
        Error::Refused(refusal) => refusal.reply() != OptionReplyType::ERR_SHUTDOWN,
        _ => false,
    }
}
