//! Lines of 16 bytes.

use std::fmt::Write as _;
use std::ops::Range;

/// How many bytes are on a line.
const LINE: usize = 16;

/// Turns bytes into lines. A line that is the same as the one before is left out, but for the last.
pub(crate) struct Lines {
    range: Range<u64>,
    line: Vec<u8>,
    last: Option<Vec<u8>>,
    is_left_out: bool,
    look: &'static Look,
    text: String,
}

/// What lines look like.
struct Look {
    left_out: &'static str,
    edge: &'static str,
    dot: &'static str,
    offset: &'static str,
    plain: &'static str,
    byte: &'static str,
    letter: &'static str,
    sign: &'static str,
    end: &'static str,
}

static PLAIN: Look = Look {
    left_out: "*",
    edge: "|",
    dot: ".",
    offset: "",
    plain: "",
    byte: "",
    letter: "",
    sign: "",
    end: "",
};

static COLOURED: Look = Look {
    left_out: "☆",
    edge: "│",
    dot: "·",
    offset: "\x1b[32m",
    plain: "\x1b[90m",
    byte: "\x1b[1;94m",
    letter: "\x1b[1;91m",
    sign: "\x1b[1;95m",
    end: "\x1b[0m",
};

impl Lines {
    /// Lines of a range, in bytes.
    pub(crate) const fn new(range: Range<u64>, coloured: bool) -> Self {
        Self {
            range,
            line: Vec::new(),
            last: None,
            is_left_out: false,
            look: if coloured { &COLOURED } else { &PLAIN },
            text: String::new(),
        }
    }

    pub(crate) fn data(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (part, rest) = data.split_at(data.len().min(LINE - self.line.len()));
            self.line.extend_from_slice(part);
            data = rest;
            if self.line.len() == LINE {
                self.end_line();
            }
        }
    }

    pub(crate) fn zeroes(&mut self, mut length: u64) {
        while length > 0 {
            let skipped = self.like_the_last(length);
            if skipped > 0 {
                self.leave_out();
                self.range.start += skipped;
                length -= skipped;
            } else {
                let room = (LINE - self.line.len()) as u64;
                let part = length.min(room);
                self.data(&[0; LINE][..part as usize]);
                length -= part;
            }
        }
    }

    /// Takes the text of what is complete.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Returns the text of what is left.
    pub(crate) fn finish(mut self) -> String {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.text
    }

    /// Returns how many of so many zeroes are lines that are left out.
    fn like_the_last(&self, length: u64) -> u64 {
        let is_zero = |line: &Vec<u8>| line.iter().all(|byte| *byte == 0);
        if !self.line.is_empty() || !self.last.as_ref().is_some_and(is_zero) {
            return 0;
        }
        let line = LINE as u64;
        let rest = self.range.end - self.range.start;
        // The last line, which may be short.
        let last = rest - (rest.saturating_sub(1) / line * line);
        length.min(rest - last) / line * line
    }

    fn end_line(&mut self) {
        let end = self.range.start + self.line.len() as u64;
        if self.last.as_ref() == Some(&self.line) && end < self.range.end {
            self.leave_out();
        } else {
            self.print();
            self.is_left_out = false;
        }
        self.range.start = end;
        self.last = Some(std::mem::take(&mut self.line));
    }

    fn leave_out(&mut self) {
        if !self.is_left_out {
            self.text.push_str(self.look.left_out);
            self.text.push('\n');
        }
        self.is_left_out = true;
    }

    fn print(&mut self) {
        let Self { look, text, .. } = self;
        let at = self.range.start;
        // Writing to text never fails.
        let _ = write!(text, "{}{at:010x}{}: ", look.offset, look.plain);
        for at in 0..LINE {
            let _ = match self.line.get(at) {
                Some(0) => write!(text, "{}00 ", look.plain),
                Some(byte) => write!(text, "{}{byte:02x} ", look.byte),
                None => write!(text, "{}   ", look.plain),
            };
            if at == LINE / 2 - 1 {
                text.push(' ');
            }
        }
        let _ = write!(text, "{}{}", look.plain, look.edge);
        for at in 0..LINE {
            let _ = match self.line.get(at) {
                Some(byte) if byte.is_ascii_alphanumeric() => {
                    write!(text, "{}{}", look.letter, char::from(*byte))
                }
                Some(byte) if byte.is_ascii_graphic() || *byte == b' ' => {
                    write!(text, "{}{}", look.sign, char::from(*byte))
                }
                Some(_) => write!(text, "{}{}", look.plain, look.dot),
                None => write!(text, "{} ", look.plain),
            };
        }
        let _ = writeln!(text, "{}{}{}", look.plain, look.edge, look.end);
    }
}
