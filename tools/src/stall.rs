//! Servers that fall silent.

use std::time::Duration;

use nbd_client::Builder;

/// How long a server that owes replies may be silent, if that is limited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall(Option<Duration>);

impl Stall {
    /// Reads a number of seconds; 0 is no limit.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let seconds = text.parse().map_err(|_| "expected a number of seconds")?;
        Ok(Self((seconds > 0).then(|| Duration::from_secs(seconds))))
    }

    /// Limits the silence of the server of a connection.
    pub(crate) fn limit(self, builder: Builder) -> Builder {
        match self.0 {
            Some(timeout) => builder.stall_timeout(timeout),
            None => builder,
        }
    }
}

/// The option of the tools that cannot go on with another connection.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct StallArgs {
    /// Give up a server that owes replies and is silent for so long; 0 for never
    #[arg(long, value_name = "SECONDS", value_parser = Stall::parse, default_value = "60")]
    pub(crate) stall: Stall,
}
