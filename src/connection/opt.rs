//! Option mode: negotiation by hand.

use tokio::sync::oneshot;

use crate::connection::{Connection, check_string};
use crate::driver::OptionCall;
use crate::error::{Error, Result};
use crate::export::{Export, ListedExport};
use crate::state::State;
use crate::wire::OptionType;

/// Negotiation by hand, with [`opt_mode`](crate::Builder::opt_mode).
///
/// Once connected, the handle is [`Negotiating`](State::Negotiating), and these calls are allowed.
/// While one runs, the handle is [`Connecting`](State::Connecting). The calls run one at a time: a
/// second call waits for the first. In any other state they fail with an error that names the
/// state.
///
/// A refusal by the server is [`Error::Refused`] with the reason and the server's text, and leaves
/// the negotiation usable. If the reason is that the server shuts down, the connection is ended
/// with `NBD_OPT_ABORT`. An oldstyle server has no options: the connection becomes ready at once.
///
/// # Cancel safety
///
/// An option that was begun is finished even if its future is dropped; only the answer is lost.
///
/// # Examples
/// ```
/// # use nbd_client::{Connection, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nbd_client::Result<()> {
/// # let server = testing::Server::builder()
/// #     .export("small", testing::Export::new(1 << 20))
/// #     .export("large", testing::Export::new(1 << 30))
/// #     .build();
/// let conn = Connection::builder().opt_mode(true).build();
/// conn.connect_stream(server.connect()).await?;
/// for listed in conn.opt_list().await? {
///     conn.set_export_name(listed.name)?;
///     if conn.opt_info().await?.size() > 1 << 20 {
///         break;
///     }
/// }
/// conn.opt_go().await?;
/// assert_eq!(conn.size()?, 1 << 30);
/// # Ok(())
/// # }
/// ```
impl Connection {
    /// Lists the exports (`NBD_OPT_LIST`). A server may refuse, or list only some.
    ///
    /// # Errors
    /// If the server refuses, or the handle is not negotiating.
    #[doc(alias = "nbd_opt_list")]
    #[doc(alias = "nbd_aio_opt_list")]
    pub async fn opt_list(&self) -> Result<Vec<ListedExport>> {
        self.call(OptionCall::List).await
    }

    /// Asks about the export (`NBD_OPT_INFO`) without entering it. Afterwards
    /// [`export`](Self::export) returns the answer, too. After a failure, nothing is known about the
    /// export.
    ///
    /// The answer when the export is entered counts, and may differ: nbd-server reports 0 bytes here
    /// for every export, and the size only after [`opt_go`](Self::opt_go).
    ///
    /// The requested contexts are selected first.
    ///
    /// # Errors
    /// If the server refuses, or the handle is not negotiating.
    #[doc(alias = "nbd_opt_info")]
    #[doc(alias = "nbd_aio_opt_info")]
    pub async fn opt_info(&self) -> Result<Export> {
        self.call(OptionCall::Info).await
    }

    /// Enters the export (`NBD_OPT_GO`): the handle becomes ready. Falls back to
    /// `NBD_OPT_EXPORT_NAME` on servers that do not know `GO`.
    ///
    /// # Errors
    /// If the server refuses, which leaves the negotiation usable, or the handle is not
    /// negotiating.
    #[doc(alias = "nbd_opt_go")]
    #[doc(alias = "nbd_aio_opt_go")]
    pub async fn opt_go(&self) -> Result<()> {
        self.call(OptionCall::Go).await
    }

    /// Ends the negotiation (`NBD_OPT_ABORT`): the handle becomes closed.
    ///
    /// # Errors
    /// If the handle is not negotiating.
    #[doc(alias = "nbd_opt_abort")]
    #[doc(alias = "nbd_aio_opt_abort")]
    pub async fn opt_abort(&self) -> Result<()> {
        self.call(OptionCall::Abort).await
    }

    /// Upgrades the connection to TLS (`NBD_OPT_STARTTLS`) with the implementation given to
    /// [`Builder::tls`](crate::Builder::tls), whatever the mode. Returns `false` if the server
    /// refuses. With the modes `Prefer` and `Require`, the upgrade happens while connecting.
    ///
    /// Everything that was negotiated in clear is forgotten: structured replies, extended headers,
    /// metadata contexts and information about an export must be requested again.
    ///
    /// # Errors
    /// If the handle is not negotiating, there is no TLS implementation, the credentials that the URI
    /// names cannot be used, there is no name to check the server's certificate against, or the
    /// connection is encrypted already. These errors leave the negotiation usable. A TLS handshake
    /// that fails ends the connection.
    #[doc(alias = "nbd_opt_starttls")]
    #[doc(alias = "nbd_aio_opt_starttls")]
    pub async fn opt_starttls(&self) -> Result<bool> {
        self.call(OptionCall::StartTls).await
    }

    /// Asks for structured replies (`NBD_OPT_STRUCTURED_REPLY`). Returns `false` if the server
    /// refuses. They are negotiated while connecting, unless switched off.
    ///
    /// # Errors
    /// If the handle is not negotiating, or the server breaks the protocol.
    #[doc(alias = "nbd_opt_structured_reply")]
    #[doc(alias = "nbd_aio_opt_structured_reply")]
    pub async fn opt_structured_reply(&self) -> Result<bool> {
        self.call(|answer| OptionCall::Feature(OptionType::STRUCTURED_REPLY, answer))
            .await
    }

    /// Asks for extended headers (`NBD_OPT_EXTENDED_HEADERS`). Returns `false` if the server
    /// refuses. They are negotiated while connecting, unless switched off.
    ///
    /// # Errors
    /// If the handle is not negotiating, or the server breaks the protocol.
    #[doc(alias = "nbd_opt_extended_headers")]
    #[doc(alias = "nbd_aio_opt_extended_headers")]
    pub async fn opt_extended_headers(&self) -> Result<bool> {
        self.call(|answer| OptionCall::Feature(OptionType::EXTENDED_HEADERS, answer))
            .await
    }

    /// Lists the metadata contexts of the export that match `queries`
    /// (`NBD_OPT_LIST_META_CONTEXT`), or all of them if there are no queries. A query that ends in a
    /// colon matches a whole namespace.
    ///
    /// # Errors
    /// If the server refuses, the handle is not negotiating, or a query is longer than 4096
    /// bytes.
    #[doc(alias = "nbd_opt_list_meta_context")]
    #[doc(alias = "nbd_opt_list_meta_context_queries")]
    #[doc(alias = "nbd_aio_opt_list_meta_context")]
    #[doc(alias = "nbd_aio_opt_list_meta_context_queries")]
    pub async fn opt_list_meta_context<I>(&self, queries: I) -> Result<Vec<String>>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.meta_context(OptionType::LIST_META_CONTEXT, queries)
            .await
    }

    /// Selects metadata contexts of the export (`NBD_OPT_SET_META_CONTEXT`), and returns those that
    /// the server has.
    ///
    /// This replaces any former selection, even if it fails. The automatic selection replaces this
    /// one, see [`request_meta_context`](crate::Builder::request_meta_context).
    ///
    /// # Errors
    /// If the server refuses, the handle is not negotiating, or a query is longer than 4096
    /// bytes.
    #[doc(alias = "nbd_opt_set_meta_context")]
    #[doc(alias = "nbd_opt_set_meta_context_queries")]
    #[doc(alias = "nbd_aio_opt_set_meta_context")]
    #[doc(alias = "nbd_aio_opt_set_meta_context_queries")]
    pub async fn opt_set_meta_context<I>(&self, queries: I) -> Result<Vec<String>>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.meta_context(OptionType::SET_META_CONTEXT, queries)
            .await
    }

    async fn meta_context<I>(&self, option: OptionType, queries: I) -> Result<Vec<String>>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let queries: Vec<String> = queries.into_iter().map(Into::into).collect();
        queries
            .iter()
            .try_for_each(|query| check_string("metadata query", query))?;
        self.call(|answer| OptionCall::MetaContext(option, queries, answer))
            .await
    }

    async fn call<T>(
        &self,
        call: impl FnOnce(oneshot::Sender<Result<T>>) -> OptionCall,
    ) -> Result<T> {
        let inner = self.inner();
        let wrong_state = || match inner.ended() {
            Some(error) => error.clone(),
            None => Error::state(self.state(), "negotiating"),
        };
        let Some(options) = inner.options() else {
            return Err(wrong_state());
        };
        if !matches!(self.state(), State::Negotiating | State::Connecting) {
            return Err(wrong_state());
        }
        let (answer, result) = oneshot::channel();
        if options.send(call(answer)).await.is_ok() {
            if let Ok(result) = result.await {
                return result;
            }
        }
        // The negotiation is over, one way or the other.
        let is_over = |state: &State| matches!(state, State::Ready | State::Closed | State::Dead);
        inner.reach(is_over).await;
        Err(wrong_state())
    }

    /// Changes the name of the export, while created or negotiating. Information about another
    /// export is forgotten.
    ///
    /// # Errors
    /// If the handle is in another state, or the name is longer than 4096 bytes or contains NUL.
    #[doc(alias = "nbd_set_export_name")]
    pub fn set_export_name(&self, name: impl Into<String>) -> Result<()> {
        let name = name.into();
        check_string("export name", &name)?;
        self.check_changeable()?;
        let mut export_options = self.inner().lock_export_options();
        if export_options.export_name != name {
            export_options.export_name = name;
            drop(export_options);
            self.inner().forget_export();
        }
        Ok(())
    }

    /// Adds a metadata context to ask for, while created or negotiating.
    ///
    /// # Errors
    /// If the handle is in another state, or the name is longer than 4096 bytes or contains NUL.
    #[doc(alias = "nbd_add_meta_context")]
    pub fn add_meta_context(&self, name: impl Into<String>) -> Result<()> {
        let name = name.into();
        check_string("metadata context", &name)?;
        self.check_changeable()?;
        self.inner().lock_export_options().contexts.push(name);
        Ok(())
    }

    /// Removes all metadata contexts to ask for, required ones included, while created or
    /// negotiating.
    ///
    /// # Errors
    /// If the handle is in another state.
    #[doc(alias = "nbd_clear_meta_contexts")]
    pub fn clear_meta_contexts(&self) -> Result<()> {
        self.check_changeable()?;
        let mut options = self.inner().lock_export_options();
        options.contexts.clear();
        options.required.clear();
        Ok(())
    }

    /// Sets whether to select the requested contexts automatically, see
    /// [`request_meta_context`](crate::Builder::request_meta_context), while created or negotiating.
    ///
    /// # Errors
    /// If the handle is in another state.
    #[doc(alias = "nbd_set_request_meta_context")]
    pub fn set_request_meta_context(&self, request: bool) -> Result<()> {
        self.check_changeable()?;
        self.inner().lock_export_options().request_meta_context = request;
        Ok(())
    }

    /// Sets whether to ask for canonical name and description, while created or negotiating.
    ///
    /// # Errors
    /// If the handle is in another state.
    #[doc(alias = "nbd_set_full_info")]
    pub fn set_full_info(&self, request: bool) -> Result<()> {
        self.check_changeable()?;
        self.inner().lock_export_options().full_info = request;
        Ok(())
    }

    /// Sets whether to ask for block sizes, while created or negotiating.
    ///
    /// # Errors
    /// If the handle is in another state.
    #[doc(alias = "nbd_set_request_block_size")]
    pub fn set_request_block_size(&self, request: bool) -> Result<()> {
        self.check_changeable()?;
        self.inner().lock_export_options().request_block_size = request;
        Ok(())
    }

    /// Returns the metadata contexts to ask for.
    #[doc(alias = "nbd_get_nr_meta_contexts")]
    #[doc(alias = "nbd_get_meta_context")]
    #[must_use]
    pub fn meta_contexts(&self) -> Vec<String> {
        self.inner().lock_export_options().contexts.clone()
    }

    /// Returns whether a metadata context was selected: for the export that was entered, or, while
    /// negotiating, for the export whose name is set, by [`opt_info`](Self::opt_info) or
    /// [`opt_set_meta_context`](Self::opt_set_meta_context).
    ///
    /// # Errors
    /// If this is not known: contexts are requested, but neither call has succeeded since the name
    /// was set, or the handle is not connected.
    #[doc(alias = "nbd_can_meta_context")]
    pub fn can_meta_context(&self, context: &str) -> Result<bool> {
        let state = self.state();
        let facts = self.inner().lock_facts();
        if self.inner().transmission().is_some() {
            let export = facts.export.as_ref();
            return Ok(export.is_some_and(|export| export.has_context(context)));
        }
        if let Some(contexts) = &facts.contexts {
            return Ok(contexts.iter().any(|name| name == context));
        }
        drop(facts);
        if state == State::Negotiating && self.meta_contexts().is_empty() {
            return Ok(false);
        }
        Err(Error::state(
            state,
            "ready, or have selected metadata contexts",
        ))
    }

    fn check_changeable(&self) -> Result<()> {
        match self.state() {
            State::Created | State::Negotiating => Ok(()),
            state => Err(Error::state(state, "created or negotiating")),
        }
    }
}
