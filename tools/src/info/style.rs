//! Colours on a terminal.

/// How to print: with colours or without.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colours: bool,
}

impl Style {
    pub(crate) const fn new(colours: bool) -> Self {
        Self { colours }
    }

    /// What a part of the output is about.
    pub(crate) fn heading(self, text: &str) -> String {
        self.with("1", text)
    }

    /// The name of a fact.
    pub(crate) fn key(self, text: &str) -> String {
        self.with("36", text)
    }

    /// Yes or no.
    pub(crate) fn flag(self, flag: bool) -> String {
        self.with(if flag { "32" } else { "31" }, &flag.to_string())
    }

    /// A range of an export by its type: what is 0 stands out, such as data.
    pub(crate) fn extent(self, flags: u64, text: &str) -> String {
        self.with(if flags == 0 { "1" } else { "2" }, text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}
