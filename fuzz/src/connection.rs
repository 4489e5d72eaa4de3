//! A whole client on a clock that stands still.

use std::future::Future;
use std::sync::Once;
use std::time::Duration;

use nbd_client::wire::ReplyStyle;
use nbd_client::{Builder, Connection, session};
use tokio::runtime;

use super::answers::CONTEXTS;

/// Where cookies start, so that an input can name them.
pub const FIRST_COOKIE: u64 = 0x4e42_4443_0000_0000;
/// Nothing takes longer: the clock goes on only when nobody has anything to do.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
/// How long a request may take.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Runs the script of one input to its end.
pub fn run(script: impl Future<Output = ()>) {
    static COOKIES: Once = Once::new();
    COOKIES.call_once(|| session::fix_cookies(FIRST_COOKIE));
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let result = tokio::time::timeout(FOR_EVER, script).await;
        result.expect("somebody waits for ever");
    });
}

/// A client that asks for replies in this form, and for all contexts.
pub fn builder(style: ReplyStyle) -> Builder {
    let builder = Connection::builder()
        // The clock stands still, but looking again takes real time.
        .busy_poll(Duration::ZERO)
        .structured_replies(style != ReplyStyle::Simple)
        .extended_headers(style == ReplyStyle::Extended);
    let add = |builder: Builder, (_, name)| builder.meta_context(name);
    CONTEXTS.into_iter().fold(builder, add)
}
