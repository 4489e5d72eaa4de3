//! `STARTTLS`, and the upgrade of the stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use futures::Sink;
use tokio_util::codec::Framed;

use super::{Negotiator, fault};
use crate::error::{Error, InvalidRequest, InvalidUse, Phase, Result};
use crate::error::{TlsError, TlsFailure};
use crate::transport::Transport;
use crate::transport::tls::{Goodbye, Tls, TlsInfo, TlsUpgrade, unaccepted};
use crate::wire::codec::{Expect, OptionCodec};
use crate::wire::option::OptionRequest;
use crate::wire::{OptionType, ProtocolError, ReplyStyle};

impl Negotiator {
    /// Upgrades the connection to TLS. A refusal by the server leaves it in clear and usable; after
    /// any other failure, nothing can be sent any more.
    pub(in crate::driver) async fn starttls(&mut self, tls: &Tls) -> Result<()> {
        let Some(upgrade) = &tls.upgrade else {
            return Err(InvalidUse::NoTls.into());
        };
        // P-092: no STARTTLS inside TLS.
        if self.tls.is_some() {
            let why = "the connection is encrypted already";
            return Err(InvalidRequest::NotNegotiated(why).into());
        }
        let name = tls.server_name.as_deref();
        upgrade.check(name)?;
        let option = OptionType::STARTTLS;
        // P-093: STARTTLS carries no data.
        self.start(OptionRequest::bare(option))?;
        self.finish(option).await?;
        let info = self.upgrade(&**upgrade, name).await?;
        tracing::debug!(
            version = info.version(),
            suite = info.cipher_suite(),
            "encrypted"
        );
        self.inner.lock_facts().tls = Some(info.clone());
        self.tls = Some(info);
        self.unaccepted = true;
        Ok(())
    }

    /// Returns whether the stream is one with TLS.
    pub(in crate::driver) const fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Replaces the stream by one with TLS.
    async fn upgrade(&mut self, upgrade: &dyn TlsUpgrade, name: Option<&str>) -> Result<TlsInfo> {
        let codec = OptionCodec::default();
        let framed = &mut self.framed;
        let flushed = poll_fn(|cx| Pin::new(&mut *framed).poll_flush(cx)).await;
        flushed.map_err(|error| fault(Phase::Tls, error))?;

        // From here on, no stream in clear can be read or written by mistake.
        let nothing = Transport::foreign(tokio::io::empty()).join();
        let clear = std::mem::replace(framed, Framed::new(nothing, codec));
        let parts = clear.into_parts();
        // P-094: bytes that came in clear must not be read as if they had come through TLS.
        if !parts.read_buf.is_empty() {
            return Err(ProtocolError::ClearBytesBeforeTls(parts.read_buf.len()).into());
        }
        // P-102: what was agreed in clear is void, since an attacker may have agreed to it.
        self.style = ReplyStyle::Simple;
        self.selected = None;
        self.inner.forget_export();

        let (stream, info) = upgrade
            .upgrade(Box::new(parts.io), name)
            .await
            .map_err(Error::tls)?;
        let stream = Goodbye::new(stream);
        self.framed = Framed::new(Transport::foreign(stream).join(), codec);
        self.expect(Expect::Reply);
        Ok(info)
    }

    /// Returns the error of a stream that failed before anything came through TLS.
    pub(super) fn not_accepted(&self, error: io::Error) -> Error {
        let client = self.tls.as_ref().map(TlsInfo::client_certificate);
        Error::tls(unaccepted(client.unwrap_or_default(), error))
    }
}

/// Returns the error of a server that cannot negotiate TLS.
pub(super) fn not_possible(why: &'static str) -> Error {
    let error = io::Error::new(io::ErrorKind::Unsupported, why);
    Error::tls(TlsError::new(TlsFailure::NotPossible, error))
}
