//! Whether to print in colours.

use std::io::IsTerminal as _;

use clap::Args;

/// What the command line says about colours.
#[derive(Args, Debug)]
pub(crate) struct Colours {
    /// Use colours [default: on a terminal, unless NO_COLOR is set]
    #[arg(long, aliases = ["colors", "colour", "colours"], overrides_with = "no_color")]
    color: bool,
    /// Use no colours
    #[arg(long, aliases = ["no-colors", "no-colour", "no-colours"], overrides_with = "color")]
    no_color: bool,
}

impl Colours {
    /// Whether to print in colours.
    pub(crate) fn are_wanted(&self) -> bool {
        let wanted = || {
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            std::io::stdout().is_terminal() && !refused
        };
        self.color || !self.no_color && wanted()
    }
}
